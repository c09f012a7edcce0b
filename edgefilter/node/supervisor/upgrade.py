"""Replace the processes of a running node without losing a sample.

A reducer is replaced in five steps. A failure before step 4 leaves the old reducer as it was:

1. The new reducer starts beside the old one, with another interpreter or configuration, and compiles.
2. It reduces the same blocks as a shadow. With the same version and settings it must make the same products (law 1);
   otherwise the differences are reported.
3. From a certain block on it keeps its products instead of comparing them; it reports the number of that block.
4. The old reducer stops at that block or a later one, and ends.
5. The new reducer takes over ring and spool at that block.

A second receiver replaces the first at the same ring: it binds the endpoint as soon as the first has left it. Frames in
the queue of a connection are lost, unless the sender repeats its last frames to the next receiver, as ``edgefilter
send`` does: the ring writes frames by their sample numbers.
"""

import asyncio
import math
import time
from collections.abc import Callable

from edgefilter.core.config import NodeConfig, Reduction
from edgefilter.core.errors import ConfigError, EdgefilterError
from edgefilter.node.ipc import Message
from edgefilter.node.supervisor.child import Child, ChildError
from edgefilter.node.supervisor.control_socket import ProgressCallback
from edgefilter.node.supervisor.node_state import NodeState
from edgefilter.node.supervisor.streams import NodeStream

_REPLY_TIMEOUT_SECONDS = 30.0
_POLL_SECONDS = 0.05
_SECTIONS: tuple[str, ...] = ("stream", "input", "node", "spool", "store")
_LIVE_SETTINGS = ("hang_seconds", "drain_seconds")  # settings of [node] that need no new process


class UpgradeError(EdgefilterError):
    """A process was not replaced; the old one continues."""


class Upgrader:
    """Replaces the processes of a node, one at a time.

    Parameters
    ----------
    node
        State of the node.
    read_config
        Reads the configuration again, from another file if it gets a path.
    """

    def __init__(self, node: NodeState, read_config: Callable[[str | None], NodeConfig]) -> None:
        self._node = node
        self._read_config = read_config
        self._busy = asyncio.Lock()

    async def reload(self, on_progress: ProgressCallback) -> None:
        """Read the configuration again and apply it from some block on.

        Parameters
        ----------
        on_progress
            Called with lines that report progress.

        Raises
        ------
        EdgefilterError
            If the new configuration cannot be used; the old one stays.
        """
        new = self._read_config(None)
        await self._replace_reducers(on_progress, new, None, shadow=0, timeout=600.0)

    async def upgrade(
        self,
        on_progress: ProgressCallback,
        python: str | None = None,
        config: str | None = None,
        shadow: int = 2,
        receiver: bool = False,
        timeout: float = 600.0,
    ) -> None:
        """Replace the reducers, or the receiver.

        Parameters
        ----------
        on_progress
            Called with lines that report progress.
        python, config
            Interpreter and configuration file of the new processes; None is the present one.
        shadow
            Number of blocks to compare first.
        receiver
            Whether to replace the receiver instead of the reducers.
        timeout
            Maximum time for a new reducer to compile, catch up and reduce the blocks to compare, s.

        Raises
        ------
        EdgefilterError
            If the upgrade fails; the old processes continue.
        """
        if receiver:
            async with self._busy:
                await self._replace_receiver(on_progress, python or self._node.receiver_python)
            return
        new = self._read_config(config) if config is not None else None
        await self._replace_reducers(on_progress, new, python, shadow, timeout)

    async def cancel(self) -> None:
        """Cancel an upgrade, because the node ends."""
        for stream in self._node.streams:
            if stream.replacement is not None and stream.replacement.state.get("shadow", True):
                stream.replacement.why = "the node is ending"
                stream.replacement.kill()
        async with self._busy:
            pass

    async def _replace_reducers(
        self, on_progress: ProgressCallback, new: NodeConfig | None, python: str | None, shadow: int, timeout: float
    ) -> None:
        node = self._node
        async with self._busy:
            node.check_not_draining()
            if new is not None:
                self._report_deferred_settings(on_progress, new)
                if python is None and all(_same_reduction(stream.config, new) for stream in node.streams):
                    on_progress("no setting of the reducers has changed")
                    self._apply_live_settings(new)
                    return
            for stream in node.streams:
                if stream.finished or stream.refused:
                    continue
                try:
                    await self._replace_reducer(
                        on_progress, stream, new or stream.config, python or stream.python, shadow, timeout
                    )
                except EdgefilterError as error:
                    self._node.replaced["failed"] += 1
                    raise UpgradeError(f"stream {stream.name}: {error}; the old reducer continues") from None
                self._node.replaced["done"] += 1
            if new is not None:
                self._apply_live_settings(new)
            node.streams.write()

    def _report_deferred_settings(self, on_progress: ProgressCallback, new: NodeConfig) -> None:
        old = self._node.config
        if [stream.name for stream in new.stream] != [stream.name for stream in old.stream]:
            raise ConfigError("the names of the streams have changed: restart the node to use them")
        old_values: Message = old.model_dump(mode="json")
        new_values: Message = new.model_dump(mode="json")
        for name in _SECTIONS:
            before, after = old_values[name], new_values[name]
            if name == "stream":
                keys = [name] if before != after else []
            else:
                keys = [f"{name}.{key}" for key in after if before[key] != after[key] and key not in _LIVE_SETTINGS]
            for key in keys:
                if key not in ("node.threads", "node.backend", "node.name"):
                    on_progress(f"{key} takes effect when the node is restarted")

    def _apply_live_settings(self, new: NodeConfig) -> None:
        """Apply the settings that need no new process."""
        live = {key: getattr(new.node, key) for key in _LIVE_SETTINGS}
        config = self._node.config
        self._node.config = config.model_copy(update={"node": config.node.model_copy(update=live)})

    # --- reducers

    async def _replace_reducer(
        self,
        on_progress: ProgressCallback,
        stream: NodeStream,
        config: NodeConfig,
        python: str,
        shadow: int,
        timeout: float,
    ) -> None:
        node, old = self._node, stream.reducer
        if stream.reducer is None or old is None or old.ended.done():
            raise UpgradeError("its reducer is being started again")
        if "next_sample" not in old.state:  # nothing has arrived yet, so there is nothing to compare
            stream.config, stream.python = config, python
            old.stopping = True
            old.kill()
            await old.ended
            node.start_reducer(stream)
            on_progress(f"stream {stream.name}: the new reducer waits for the stream")
            return
        deadline = time.monotonic() + timeout
        stream.shadow_blocks.blocks.clear()
        new = stream.replacement = node.spawn_reducer(stream, config, python, shadow=True)
        ready = new.expect("ready")
        try:
            message = await new.wait_for_reply(ready, timeout)
            on_progress(
                f"stream {stream.name}: new reducer {new.version} with settings {message['settings']} in {python} is "
                f"ready; old reducer {old.version} with settings {old.state['settings']}"
            )
            await self._compare(on_progress, stream, old, new, shadow, deadline)
            at = await self._agree_takeover_sample(old, new)
        except BaseException:
            new.stopping = True
            new.kill()
            await asyncio.shield(new.ended)
            stream.replacement = None
            stream.reducer.send("go on")  # to the old reducer, or its successor if it died meanwhile
            raise
        await self._take_over(on_progress, stream, old, new, at)
        stream.config, stream.python = config, new.python
        if new.ended.done():
            node.start_reducer(stream)
        on_progress(f"stream {stream.name}: done, the old reducer has ended")

    async def _compare(
        self, on_progress: ProgressCallback, stream: NodeStream, old: Child, new: Child, count: int, deadline: float
    ) -> None:
        """Compare the products of blocks that both reducers have made.

        Raises
        ------
        UpgradeError
            If blocks of the same version and settings differ, or there are too few blocks in time.
        ChildError
            If one of the reducers ends.
        """
        same_reduction = all(old.state[key] == new.state[key] for key in ("code", "settings", "node"))
        if new.state["block_samples"] != old.state["block_samples"]:
            on_progress(f"stream {stream.name}: the length of blocks changes, so none can be compared")
            return
        seen: set[int] = set()
        while len(seen) < count:
            for child in (old, new):
                if child.ended.done():
                    raise ChildError(child.exit_reason())
            if time.monotonic() > deadline:
                raise UpgradeError(f"the new reducer is too slow: {len(seen)} of {count} blocks were compared in time")
            both = set(stream.recent_blocks.blocks) & set(stream.shadow_blocks.blocks) - seen
            for block in sorted(both):
                old_block, new_block = stream.recent_blocks.blocks[block], stream.shadow_blocks.blocks[block]
                seen.add(block)
                if old_block["digest"] == new_block["digest"]:
                    on_progress(f"stream {stream.name}: block {block} is equal")
                    continue
                folders = set(old_block["folders"]) | set(new_block["folders"])
                differ = sorted(
                    name for name in folders if old_block["folders"].get(name) != new_block["folders"].get(name)
                )
                on_progress(f"stream {stream.name}: block {block} differs in {', '.join(differ)}")
                if same_reduction:
                    raise UpgradeError(f"block {block} differs, though version and settings are the same")
            await asyncio.sleep(_POLL_SECONDS)

    async def _agree_takeover_sample(self, old: Child, new: Child) -> int:
        """Return the sample at which the old reducer ends and the new one takes over."""
        lengths = old.state["block_samples"], new.state["block_samples"]
        prepared = new.expect("prepared")
        new.send("prepare", align=lengths[0])
        at = (await new.wait_for_reply(prepared, _REPLY_TIMEOUT_SECONDS))["at"]
        ending = old.expect("ending")
        old.stopping = True
        old.send("end", at=at, step=math.lcm(*lengths))
        try:
            return int((await old.wait_for_reply(ending, _REPLY_TIMEOUT_SECONDS))["at"])
        except ChildError:
            old.stopping = False
            raise

    async def _take_over(
        self, on_progress: ProgressCallback, stream: NodeStream, old: Child, new: Child, at: int
    ) -> None:
        block = at // new.state["block_samples"]
        on_progress(f"stream {stream.name}: the new reducer takes over at block {block} (sample {at})")
        took_over = new.expect("took over")
        new.send("take over", at=at)
        try:
            await new.wait_for_reply(took_over, None)  # a hung process is killed, so this wait ends
        except ChildError as error:
            stream.replacement = None
            old.stopping = False
            if old.ended.done():
                self._node.start_reducer(stream)
            old.send("go on")
            raise UpgradeError(str(error)) from None
        await old.ended
        stream.reducer, stream.replacement = new, None

    # --- the receiver

    async def _replace_receiver(self, on_progress: ProgressCallback, python: str) -> None:
        node, old = self._node, self._node.receiver
        node.check_not_draining()
        if old is None or old.ended.done():
            raise UpgradeError("the receiver is being started again")
        new = node.spawn_receiver(python)
        retired, hello, listening = old.expect("retired"), new.expect("hello"), new.expect("listening")
        try:
            await new.wait_for_reply(hello, _REPLY_TIMEOUT_SECONDS)
            old.stopping = True
            old.send("retire")
            await old.wait_for_reply(retired, _REPLY_TIMEOUT_SECONDS)
            await new.wait_for_reply(listening, _REPLY_TIMEOUT_SECONDS)
        except ChildError as error:
            self._node.replaced["failed"] += 1
            new.stopping = True
            new.kill()
            if old.stopping and not old.ended.done():
                node.start_receiver()  # the old one has left the endpoint
            raise UpgradeError(f"{error}; a receiver of the old version continues") from None
        node.receiver, node.receiver_python = new, python
        self._node.replaced["done"] += 1
        on_progress(f"receiver {new.version} in {python} has replaced the old one")


def _same_reduction(old: NodeConfig, new: NodeConfig) -> bool:
    reduction_fields = set(Reduction.model_fields)
    same = old.model_dump(include=reduction_fields) == new.model_dump(include=reduction_fields)
    return same and all(getattr(old.node, key) == getattr(new.node, key) for key in ("threads", "backend", "name"))
