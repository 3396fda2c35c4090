"""Opening a store's directory: the index as it was left, or brought up to the packs, or made anew."""

import shutil
from dataclasses import dataclass
from typing import Final

from blockyard.proto import failpoints, logs
from blockyard.proto.disk.failures import CorruptStorage
from blockyard.storagenode.store.catalogue import Catalogue
from blockyard.storagenode.store.index import CorruptIndex, Index, Position
from blockyard.storagenode.store.layout import Layout
from blockyard.storagenode.store.pack import BadPack, Pack, PackWriter
from blockyard.storagenode.store.recovery import Recovery, RecoveryReport

log = logs.get(__name__)

HOW_TO_MAKE_ONE: Final = "Make the directory that `storagenode.data_dir` names, on the disk that is to be used."


@dataclass(frozen=True, slots=True)
class Opened:
    """A directory that is ready."""

    catalogue: Catalogue
    writer: PackWriter
    unhardened: dict[int, Position]
    report: RecoveryReport
    was_clean: bool


def open_directory(layout: Layout) -> Opened:
    """Open or make what is in `layout`, whose lock is held.

    An index that cannot be read, or does not fit its packs, is made anew. Raises CorruptStorage and OSError.
    """
    layout.make()
    try:
        if not layout.broken.exists():
            return _recover(layout, deep=False)
        log.warning("index_rebuilt", why=layout.broken.read_text())
    except CorruptIndex as error:
        log.warning("index_rebuilt", why=str(error))
    return rebuild(layout)


def rebuild(layout: Layout) -> Opened:
    """Make the index anew from packs and files. Killed in between, the next start goes on. As `open_directory`."""
    layout.broken.touch()
    shutil.rmtree(layout.index, ignore_errors=True)
    failpoints.hit("store.rebuild.begun")
    opened = _recover(layout, deep=True)
    failpoints.hit("store.rebuild.replayed")
    opened.catalogue.index.flush()
    layout.broken.unlink()
    return opened


def _recover(layout: Layout, *, deep: bool) -> Opened:
    index = Index(layout.index)
    try:
        catalogue = Catalogue(index)
        recovery = Recovery(layout, catalogue, deep=deep)
        end = recovery.run()
        if catalogue.packs:
            last = catalogue.packs[end.pack]
            writer = PackWriter.reopen(last.path, last.header, end.offset)
        else:
            writer = PackWriter.create(layout.packs, 1)
            catalogue.packs[1] = Pack(writer.path, writer.header, writer.end)
    except BadPack as error:
        index.close()
        raise CorruptStorage(
            f"{error}. Move that file out of {layout.packs} and run `blockyard-storagenode --rebuild-index`; its "
            "blocks come back from other nodes."
        ) from error
    except BaseException:
        index.close()
        raise
    was_clean = layout.clean.exists()
    layout.clean.unlink(missing_ok=True)
    unhardened = {block: position for block, (position, _) in recovery.unhardened.items()}
    return Opened(catalogue, writer, unhardened, recovery.report, was_clean)
