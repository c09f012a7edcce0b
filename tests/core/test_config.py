import json
from pathlib import Path

import pytest

from edgefilter.core.config import BlockSettings, NodeConfig, PulseSettings, Reduction, ReductionSection, load
from edgefilter.core.errors import ConfigError
from edgefilter.core.plan import Plan, resolve
from edgefilter.core.stream import SampleKind
from edgefilter.core.validation import validate
from edgefilter.sources.simulated.sky import demo_sky
from tests.helpers.packages import make_package

CONFIGS = sorted((Path(__file__).parents[2] / "configs").glob("*.toml"))
NAMES = {"demo", "laptop", "ska_low_station", "meerkat_l", "parkes_uwl", "chime_like"}

# What the instrument's papers say the plan must come to: kind, band in MHz, channel in kHz, row in ms.
INSTRUMENTS = {
    "demo": (SampleKind.VOLTAGE, (592.0, 608.0), 62.5, 0.512),
    "laptop": (SampleKind.VOLTAGE, (1419.2, 1421.6), 9.375, 2.1333),
    "ska_low_station": (SampleKind.VOLTAGE, (200.0, 250.0), 12.207, 2.62144),
    "meerkat_l": (SampleKind.VOLTAGE, (1363.25, 1416.75), 104.49, 0.30624),
    "parkes_uwl": (SampleKind.POWER, (704.0, 4032.0), -4000.0, 0.512),
    "chime_like": (SampleKind.POWER, (400.0, 800.0), -24.414, 0.98304),
}


def write_config(folder: Path, text: str) -> Path:
    path = folder / "node.toml"
    path.write_text(text)
    return path


def test_every_profile_is_tested() -> None:
    assert {path.stem for path in CONFIGS} >= NAMES == set(INSTRUMENTS)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_profile_fits_its_instrument(path: Path) -> None:
    config = load(path)
    stream = config.stream[0].stream()
    plan = Plan(stream, resolve(config, stream))
    kind, band, channel_khz, row_ms = INSTRUMENTS[path.stem]
    assert stream.kind is kind
    assert plan.band_mhz == pytest.approx(band, abs=abs(plan.channel_mhz))
    assert plan.channel_mhz * 1e3 == pytest.approx(channel_khz, rel=1e-3)
    assert plan.row_seconds * 1e3 == pytest.approx(row_ms, rel=1e-4)
    assert plan.dm_range == config.pulses.dm  # said, not derived
    assert plan.samples_per_block * stream.sample_bytes <= 140e6
    # What the search must hold of the sweep, in float32.
    assert plan.sweep_rows(plan.dm_range[1]) * plan.channels * 4 < 2e9


def test_demo_profile_expects_the_demo_sky() -> None:
    config = load(Path(__file__).parents[2] / "configs" / "demo.toml")
    sky = demo_sky(1.0).stream
    expected = config.stream[0].stream()
    for name in ("kind", "rate", "channels", "first_channel_hz", "channel_step_hz", "products", "bits", "encoding"):
        assert getattr(expected, name) == getattr(sky, name), name
    assert all(low < high for low, high in [config.pulses.dm])  # type: ignore[operator]


@pytest.mark.parametrize(
    ("text", "key", "value"),
    [
        ("[pulses]\nsnr = 1.0", "pulses.snr", "1.0"),
        ("[pulses]\nsnr = nan", "pulses.snr", "nan"),
        ("[pulses]\nsnr = true", "pulses.snr", "True"),
        ("[pulses]\nsnr = 'high'", "pulses.snr", "'high'"),
        ("[pulses]\ndm = [100.0, 10.0]", "pulses", "100.0:10.0"),
        ("[pulses]\ndm = [1.0]", "pulses.dm", ""),
        ("[pulses]\nbands = 3", "pulses", "bands is 3"),
        ("[pulses]\nsrn = 7.0", "pulses.srn", "no such setting"),
        ("[pulse]\nsnr = 7.0", "pulse", "no such setting"),
        ("pulses = 7", "pulses", "7"),
        ("[channelise]\nchannels = 100", "channelise", "channels is 100"),
        ("[channelise]\nwindow = 'flat'", "channelise.window", "'flat'"),
        ("[channelise]\ntaps = 4.5", "channelise.taps", "4.5"),
        ("[flag]\nmask = [[5.0, 4.0]]", "flag", "[5.0, 4.0]"),
        ("[flag]\npower_sigma = -1.0", "flag.power_sigma", "-1.0"),
        ("[block]\nrows = 3", "block.rows", "3"),
        ("[node]\nname = '../x'", "node.name", "'../x'"),
        ("[input]\nendpoint = 'udp://x'", "input", "'udp://x'"),
        ("[input]\nendpoint = 'tcp://0.0.0.0:7214'", "input", "insecure = true"),
        ("[input]\nbuffer_seconds = 0.0", "input.buffer_seconds", "0.0"),
    ],
)
def test_a_mistake_is_one_line_with_key_and_value(tmp_path: Path, text: str, key: str, value: str) -> None:
    path = write_config(tmp_path, text)
    with pytest.raises(ConfigError) as caught:
        load(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: {key}")
    assert value in message
    assert "\n" not in message


def test_all_mistakes_are_told_a_line_each(tmp_path: Path) -> None:
    path = write_config(tmp_path, "[pulses]\nsnr = 1.0\nwidths = 0\n[block]\nrows = 1\n")
    with pytest.raises(ConfigError) as caught:
        load(path)
    lines = str(caught.value).splitlines()
    assert [line.removeprefix(f"{path}: ").split(" ")[0] for line in lines] == [
        "block.rows",
        "pulses.snr",
        "pulses.widths",
    ]


@pytest.mark.parametrize("content", [b"[pulses", b"\xff\xfe", b"a = 1\na = 2"])
def test_what_is_no_toml_is_one_line(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.toml"
    path.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        load(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_file_and_a_folder_are_one_line(tmp_path: Path) -> None:
    for path in (tmp_path / "none.toml", tmp_path):
        with pytest.raises(ConfigError, match="cannot be read"):
            load(path)


def test_an_empty_file_is_all_defaults(tmp_path: Path) -> None:
    assert load(write_config(tmp_path, "")) == NodeConfig()


def test_overrides_win_and_are_toml(tmp_path: Path) -> None:
    path = write_config(tmp_path, "[pulses]\nsnr = 9.0\n")
    overrides = {"pulses.snr": "8", "pulses.dm": "[1, 2]", "node.name": "edge-1", "input.insecure": "true"}
    config = load(path, overrides)
    assert config.pulses == PulseSettings(snr=8.0, dm=(1.0, 2.0))
    assert config.node.name == "edge-1"
    assert config.input.insecure is True


@pytest.mark.parametrize(
    ("key", "value", "problem"),
    [
        ("snr", "7", "SECTION.KEY"),
        ("a.b.c", "7", "SECTION.KEY"),
        ("pulses.snr", "loud", "pulses.snr is 'loud'"),
        ("pulses.snr", "7\nx = 1", "pulses.snr"),
        ("pulses.none", "1", "no such setting"),
        ("none.key", "1", "no such setting"),
        ("pulses.", "1", "SECTION.KEY"),
    ],
)
def test_a_wrong_override_is_one_line(key: str, value: str, problem: str) -> None:
    with pytest.raises(ConfigError) as caught:
        validate(NodeConfig, {}, {key: value})
    assert problem in str(caught.value)
    assert "\n" not in str(caught.value)


def test_overrides_leave_the_callers_tree_alone() -> None:
    tree: dict[str, object] = {"pulses": {"snr": 9.0}}
    assert validate(Reduction, tree, {"pulses.snr": "8", "block.rows": "64"}).pulses.snr == 8
    assert tree == {"pulses": {"snr": 9.0}}


def test_digest_is_of_the_science_alone() -> None:
    plain = NodeConfig()
    elsewhere = validate(NodeConfig, {"node": {"name": "b", "threads": 3}, "store": {"path": "elsewhere"}})
    assert elsewhere.digest() == plain.digest() == Reduction().digest()
    assert Reduction(block=BlockSettings(rows=64)).digest() != plain.digest()
    assert len(plain.digest()) == 16


class DriftSettings(ReductionSection):
    snr: float = 10.0


class PulsesWithMore(PulseSettings):
    later: int = 3


class WithMore(Reduction):
    """What a later version, or a plug-in, adds: a section, and a setting of an old one."""

    pulses: PulsesWithMore = PulsesWithMore()
    drift: DriftSettings = DriftSettings()


def test_a_new_setting_at_its_default_leaves_every_digest_as_it_was() -> None:
    assert WithMore().canonical() == Reduction().canonical()
    digests = {
        WithMore(**changes).digest()  # type: ignore[arg-type]
        for changes in ({}, {"drift": {"snr": 11}}, {"pulses": {"later": 4}}, {"pulses": {"snr": 8}})
    }
    assert len(digests) == 4


def test_digests_are_those_of_version_0_1_0() -> None:
    assert Reduction().digest() == "2b43a987820cfe2a"
    assert set(Reduction.model_fields) - {"stages"} == set(json.loads(Reduction().canonical()))


def test_loopback_and_ipc_need_no_permission() -> None:
    for endpoint in ("tcp://localhost:1", "tcp://[::1]:1", "ipc:///x/y"):
        assert validate(NodeConfig, {"input": {"endpoint": endpoint}}).input.endpoint == endpoint
    open_to_all = {"input": {"endpoint": "tcp://*:1", "insecure": True}}
    assert validate(NodeConfig, open_to_all).input.insecure


@pytest.mark.parametrize(
    ("streams", "problem"),
    [
        ([{"name": "a"}, {"name": "a", "endpoint": "tcp://127.0.0.1:2"}], "same name 'a'"),
        ([{"name": "a"}, {"name": "b"}], "same endpoint"),
        ([{"endpoint": "tcp://0.0.0.0:2"}], "other machines"),
        ([{"rate_hz": 1e6}], "given together"),
        ([], "at least 1"),
    ],
)
def test_streams_of_a_node_must_be_distinct_and_guarded(streams: list[dict[str, object]], problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        validate(NodeConfig, {"stream": streams})


def test_a_stream_has_its_own_endpoint_or_the_common_one() -> None:
    config = validate(NodeConfig, {"stream": [{"name": "a"}, {"name": "b", "endpoint": "ipc:///b"}]})
    assert [config.input_of(stream).endpoint for stream in config.stream] == [config.input.endpoint, "ipc:///b"]
    with pytest.raises(ConfigError, match="no header"):
        config.stream[0].stream()


def test_the_spool_lies_beside_a_directory_store_unless_it_is_named() -> None:
    assert validate(NodeConfig, {"store": {"path": "x/y/"}}).spool_directory == "x/y.spool"
    assert validate(NodeConfig, {"store": {"path": "s3://bucket/x"}}).spool_directory == "spool"
    assert validate(NodeConfig, {"spool": {"path": "q"}}).spool_directory == "q"


@pytest.fixture
def udp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    targets = {"udp": "tests.helpers.udp_input:UdpInput"}
    monkeypatch.syspath_prepend(make_package(tmp_path / "site", "radio", {"edgefilter.inputs": targets}))


def test_an_input_of_a_plugin_has_options(tmp_path: Path, udp: None) -> None:
    text = "[input]\nendpoint = 'udp://127.0.0.1:4000'\noptions = {rate_hz = 1000.0}\n"
    config = load(write_config(tmp_path, text))
    assert config.input_of(config.stream[0]).options == {"rate_hz": 1000.0}
    again = NodeConfig.model_validate_json(config.model_dump_json())  # as the processes of a node get it
    assert again == config


def test_each_stream_has_its_own_endpoint_with_its_options(tmp_path: Path, udp: None) -> None:
    text = """
    [input]
    endpoint = "tcp://0.0.0.0:7214"
    curve_key = "node.key_secret"
    curve_clients = "clients"
    [[stream]]
    [[stream]]
    name = "second"
    endpoint = "udp://127.0.0.1:4000"
    options = {rate_hz = 1000.0}
    """
    config = load(write_config(tmp_path, text))
    first, second = (config.input_of(stream) for stream in config.stream)
    assert (first.curve_key, first.options) == ("node.key_secret", {})
    assert (second.curve_key, second.options) == (None, {"rate_hz": 1000.0})


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        (
            "[input]\nendpoint = 'udp://127.0.0.1:1'\noptions = {rate_hz = 0, rat = 1}\n",
            [
                "input: udp://127.0.0.1:1: options.rate_hz is 0: Input should be greater than 0",
                "input: udp://127.0.0.1:1: options.rat: no such setting",
            ],
        ),
        (
            "[[stream]]\nendpoint = 'udp://127.0.0.1:1'\n",
            ["udp://127.0.0.1:1: options.rate_hz: Field required"],
        ),
        (
            "[[stream]]\nendpoint = 'vdif://127.0.0.1:1'\n",
            ["endpoint is 'vdif://127.0.0.1:1': no live input 'vdif' is installed; installed: ipc, tcp, udp"],
        ),
        (
            "[[stream]]\noptions = {rate_hz = 1}\n",
            ["stream.0: options needs an endpoint of the stream; those of input.endpoint are input.options"],
        ),
    ],
)
def test_each_mistake_in_the_options_is_one_line(tmp_path: Path, udp: None, text: str, lines: list[str]) -> None:
    path = write_config(tmp_path, text)
    with pytest.raises(ConfigError) as caught:
        load(path)
    assert str(caught.value).splitlines() == [f"{path}: {line}" for line in lines]


def test_a_process_that_runs_no_stage_needs_no_plugin(tmp_path: Path) -> None:
    (tmp_path / "node.toml").write_text("[stages.absent]\nx = 1\n")
    with pytest.raises(ConfigError, match="no stage 'absent' is installed"):
        load(tmp_path / "node.toml")
    assert not load(tmp_path / "node.toml", {"stages.absent.x": "2"}, stages=False).stages
