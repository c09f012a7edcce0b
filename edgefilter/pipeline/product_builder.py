"""From what the reducer found in a block to the products that are stored."""

from dataclasses import dataclass, replace

from edgefilter.core.clock import tai_ns, utc_date
from edgefilter.core.plan import Plan
from edgefilter.core.reduced_block import ReducedBlock
from edgefilter.pipeline.plugin_stages import packages, plugin_tables
from edgefilter.products.base import BlockInfo, BlockInputs, Product, Provenance, to_parquet
from edgefilter.products.cutout import make_cutouts
from edgefilter.products.cutout_file import encode
from edgefilter.products.ledger import LEDGER, LedgerRow, ledger_row
from edgefilter.products.naming import ProductNamer
from edgefilter.products.pulses import PulseRow, pulse_rows
from edgefilter.products.schemas import BLOCK_TABLES


@dataclass(frozen=True, slots=True)
class BlockProducts:
    """The products of a block, and the rows that its summary is made of.

    Parameters
    ----------
    products
        Cut-outs, then tables, the ledger last.
    pulses
        Rows of ``pulses``.
    ledger
        The row of the ledger.
    """

    products: tuple[Product, ...]
    pulses: tuple[PulseRow, ...]
    ledger: LedgerRow


class ProductBuilder:
    """Makes the products of a stream's blocks: asks each kind of product in turn.

    Parameters
    ----------
    plan
        Layout of the reduction.
    node
        Name of the node.
    code
        Version of edgefilter.

    Attributes
    ----------
    tables
        The tables that are made of every block, in the order of making.
    """

    def __init__(self, plan: Plan, node: str, code: str) -> None:
        self._plan = plan
        # Packages of others that take part are part of the code.
        code = " + ".join((code, *packages(plan)))
        self._provenance = Provenance(plan.stream.id, plan.settings.digest(), code)
        self.tables = (*BLOCK_TABLES[:-1], *plugin_tables(plan), LEDGER)  # the ledger counts the bytes of the others
        self._namer = ProductNamer(node, self._provenance)

    def build(self, reduced: ReducedBlock) -> BlockProducts:
        """Make the products of a block: a pure function of what the reducer found in it.

        Parameters
        ----------
        reduced
            The block.

        Returns
        -------
        BlockProducts
            Its products.

        Raises
        ------
        StoreError
            If the account of the block does not balance, which would be a bug.
        """
        stream, number = self._plan.stream, reduced.block
        start_ns = tai_ns(stream.epoch_tai_ns, stream.rate, number * self._plan.samples_per_block)
        date = utc_date(start_ns)
        block = BlockInfo(number, start_ns, self._plan.block_seconds)
        inputs = BlockInputs(self._plan, reduced, self._provenance, block)
        cutouts = {rank: self._namer.cutout(number, date, encode(cutout)) for rank, cutout in make_cutouts(inputs)}
        products = list(cutouts.values())
        inputs = replace(inputs, cutouts={rank: product.name for rank, product in cutouts.items()})
        for table in self.tables:
            assert table.build is not None
            inputs = replace(inputs, bytes_out=sum(len(product.content) for product in products))
            if (rows := table.build(inputs)) is not None:
                product = self._namer.table(table.name, number, date, to_parquet(rows))
                products.append(replace(product, priority=table.priority))
        return BlockProducts(tuple(products), tuple(pulse_rows(inputs)), ledger_row(inputs))
