"""Protein chains from a folder of PDB and mmCIF files, read by gemmi (`pip install 'care_jax[proteins]'`)."""

import collections
import dataclasses
import gzip
import os
import re
import zlib
from collections.abc import Iterator
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from care_jax.data.chains import Chain
from care_jax.data.errors import DataError, some
from care_jax.data.files import UNKNOWN_SIZE, check_own_fault, file_at, look_up
from care_jax.data.folder_tree import Tree
from care_jax.data.skipped import SkippedFiles

_FORMATS = {".pdb": "Pdb", ".ent": "Pdb", ".cif": "Mmcif", ".mmcif": "Mmcif"}
EXTENSIONS = (*_FORMATS, *(f"{extension}.gz" for extension in _FORMATS))
# Bytes of a file, unpacked. A mmCIF file of this size, 2.7 million atoms, took 2.5 GB of memory and half a minute.
MAX_BYTES = 2**28
_PIECE = 2**20
# The twenty standard amino acids, MSE (methionine with selenium, which crystallographers put in its place), and the
# names that force fields give to protonation states and bridged cysteines.
_LETTERS = {"ALA": "A", "CYS": "C", "ASP": "D", "GLU": "E", "PHE": "F", "GLY": "G", "HIS": "H", "ILE": "I", "LYS": "K"}
_LETTERS |= {"LEU": "L", "MET": "M", "ASN": "N", "PRO": "P", "GLN": "Q", "ARG": "R", "SER": "S", "THR": "T", "VAL": "V"}
_LETTERS |= {"TRP": "W", "TYR": "Y"}
_LETTERS |= {"MSE": "M", "CYX": "C", "CYM": "C", "ASH": "D", "GLH": "E", "LYN": "K"}
_LETTERS |= dict.fromkeys(("HID", "HIE", "HIP", "HSD", "HSE", "HSP"), "H")
# The coordinates of a Cα in a PDB file, three columns of eight characters. Read here too: gemmi takes "********", which
# programs write where a number doesn't fit, for 0.
_CA_COORDINATES = re.compile(rb"^(?:ATOM  |HETATM)[^\n]{6}(?: CA |CA  )[^\n]{14}([^\n]{24})", re.MULTILINE)
# Of the same chain in two files, ångström: a PDB file has three decimals, a mmCIF file may have more.
_SAME = 2e-3
# Ångström between the Cα of residues that follow each other in number: 3.8 where they are bonded. Of 322 chains one had
# more than 6: a simulation whose periodic box had cut it in pieces.
_TORN = 10.0


@dataclasses.dataclass
class Skipped:
    """What a folder holds besides the chains that were read.

    Attributes:
      files: structure files from which nothing could be read, and why.
      chains: protein chains that were left out, and why.
      notes: what else was passed over, each in words.
    """

    files: SkippedFiles
    chains: SkippedFiles
    notes: list[str]

    def summary(self) -> list[str]:
        """One line for each of the three of which there is something."""
        return [line for line in (self.files.summary(), self.chains.summary(), "; ".join(self.notes)) if line]


class _Part(NamedTuple):
    """A chain and the numbers of its residues, int [k]."""

    chain: Chain
    numbers: np.ndarray


class _UnreadableError(Exception):
    """Why nothing can be read from a file, in words that can be counted."""


def read_structures(root: str | os.PathLike[str], *, min_length: int = 64) -> tuple[list[Chain], Skipped]:
    """The protein chains of all PDB and mmCIF files in a folder and below, by their Cα atoms.

    Files are taken by extension (`EXTENSIONS`, in any case), in the order of their names, those of a folder before
    those of its subfolders; links are followed, and what several names lead to is read once. Of each file the first
    model counts, of each residue the first alternative location, and of the residues the standard amino acids, MSE and
    the names of force fields for protonated ones; others (phosphoserine, say) are left out, and so are residues without
    a Cα. What a file calls one chain is one, but for the segments of a PDB file, which are a chain each. Left out and
    counted are chains with more than 10 Å between two residues whose numbers follow each other, and those with the
    sequence and, to 0.002 Å, the coordinates of one before (the same entry as PDB and as mmCIF).

    Args:
      root: the folder.
      min_length: residues with a Cα that a chain must have.

    Returns:
      chains: in the order of the files and, within one, of its chains; "file:chain" their names, of
        several segments "file:chain.segment".
      skipped: everything else, counted.

    Raises:
      DataError: gemmi is not installed; there is no such folder, it can't be looked into, or holds no structure or none
        with a chain long enough; min_length < 1.
    """
    gemmi = _gemmi()
    if min_length < 1:
        raise DataError(f"min_length must be at least 1 residue, got {min_length}")
    root = os.fspath(root)
    names, notes = _find(root)
    skipped = Skipped(SkippedFiles("structure file"), SkippedFiles("chain"), notes)
    chains: list[Chain] = []
    alike: dict[str, list[Chain]] = collections.defaultdict(list)
    for name in names:
        try:
            found = _chains(gemmi, root, name)
        except (_UnreadableError, MemoryError) as error:
            skipped.files.add(name, "too large for the memory" if isinstance(error, MemoryError) else str(error))
            continue
        chains += _usable(found, min_length, alike, skipped.chains)
    if not chains:
        why = "; ".join(filter(None, (skipped.files.summary(), skipped.chains.summary())))
        raise DataError(
            f"no protein chain of at least {min_length} residues in the {len(names)} structure files of {root} "
            f"({why}): is this the right folder?"
        )
    return chains, skipped


def read_structure_file(path: str | os.PathLike[str], *, min_length: int = 64) -> list[Chain]:
    """The protein chains of one file, as `read_structures` reads those of a folder.

    Raises:
      DataError: gemmi is not installed; it is no PDB or mmCIF file, can't be read, or has no chain long enough.
    """
    gemmi, path = _gemmi(), os.fspath(path)
    root, name = os.path.split(path)
    if not name.lower().endswith(EXTENSIONS):
        raise DataError(f"{path} is no protein structure by its name, which ends in one of {', '.join(EXTENSIONS)}")
    left_out = SkippedFiles("chain")
    try:
        found = _chains(gemmi, root, name)
    except (_UnreadableError, MemoryError) as error:
        why = "too large for the memory" if isinstance(error, MemoryError) else error
        raise DataError(f"{path} can't be used: {why}") from error
    chains = _usable(found, min_length, collections.defaultdict(list), left_out)
    if not chains:
        raise DataError(f"{path} can't be used: no chain of at least {min_length} residues ({left_out.summary()})")
    return chains


def _gemmi() -> Any:
    try:
        import gemmi
    except ImportError as error:
        raise DataError("reading protein structures needs gemmi: pip install 'care_jax[proteins]'") from error
    return gemmi


def _find(root: str) -> tuple[list[str], list[str]]:
    """Paths below the root, each file once; what was passed over, in words."""
    try:
        tree = Tree(root, EXTENSIONS, splits=True)
        names, ignored, _ = tree.below("")
        sizes, identities = look_up(root, names)
    except FileNotFoundError as error:
        raise DataError(f"no folder {error.filename or root}: give the one that holds the structures") from error
    except NotADirectoryError as error:
        raise DataError(f"{root} is a file: give the folder that holds the structures") from error
    except OSError as error:
        raise DataError(f"can't look into {error.filename or root}: {error.strerror or error}") from error
    except ValueError as error:  # a null byte, or text that is no file name
        raise DataError(f"{root} can't be the name of a folder: {error}") from error
    others = ", ".join(f"{kind} {count}" for kind, count in ignored.most_common(5))
    if not names:
        raise DataError(
            f"no protein structures ({', '.join(EXTENSIONS)}) in {root}{f', only {others}' if others else ''}: "
            "give the folder that holds them"
        )
    notes = [f"ignored {ignored.total()} other files ({others})"] if ignored else []
    if tree.repeated:
        notes.append(f"passed over {len(tree.repeated)} names of folders that have others ({some(tree.repeated)})")
    once, again, seen = [], [], set()
    for name, size, identity in zip(names, sizes.tolist(), map(tuple, identities.tolist()), strict=True):
        if size != UNKNOWN_SIZE and identity in seen:
            again.append(name)
        else:
            seen.add(identity)
            once.append(name)
    if again:
        notes.append(f"passed over {len(again)} names of files that have others ({some(again)})")
    return once, notes


def _chains(gemmi: Any, root: str, name: str) -> list[_Part]:
    """The protein chains of a file, of any length.

    Raises:
      _UnreadableError: there is none.
    """
    kind = _FORMATS[os.path.splitext(name.lower().removesuffix(".gz"))[1]]
    data = _contents(os.path.join(root, name), packed=name.lower().endswith(".gz"))
    if kind == "Pdb":
        data = data.partition(b"\nENDMDL")[0]  # of an ensemble or a trajectory only the first model is used
        _check_coordinates(data)
    try:
        structure = gemmi.read_structure_string(data, format=gemmi.CoorFormat.__members__[kind])
        structure.setup_entities()  # tells polymers from ligands and water
        parts = [part for chain in structure[0] for part in _parts(chain)] if len(structure) else []
    except MemoryError:
        raise
    except Exception as error:  # its parsers raise several kinds, names in another encoding one more
        raise _UnreadableError(f"not readable as {'PDB' if kind == 'Pdb' else 'mmCIF'}") from error
    if not len(structure) or not structure[0].count_atom_sites():
        raise _UnreadableError("no atoms")
    chains = []
    for part, residues in parts:
        letters, places, numbers = zip(*residues, strict=True)
        if None in numbers:  # of a mmCIF file without auth_seq_id; gemmi makes one of all residues of a name
            raise _UnreadableError("residues without numbers")
        points = np.array(places, np.float64)
        if not np.isfinite(points).all():
            raise _UnreadableError("coordinates that are no numbers")
        chains.append(_Part(Chain(f"{name}:{part}", points, "".join(letters)), np.array(numbers)))
    if not chains:
        raise _UnreadableError("no Cα of a protein")
    return chains


def _parts(chain: Any) -> Iterator[tuple[str, list[tuple[str, list[float], int | None]]]]:
    """Its polymer, segment by segment: name, and letter, place of the Cα and number of each residue."""
    segments: dict[str, list[tuple[str, list[float], int | None]]] = collections.defaultdict(list)
    for residue in chain.get_polymer().first_conformer():
        letter = _LETTERS.get(residue.name)
        atom = residue.find_atom("CA", "*") if letter else None
        if letter and atom:
            segments[residue.segment].append((letter, atom.pos.tolist(), residue.seqid.num))
    for segment, residues in segments.items():
        yield chain.name if len(segments) == 1 else f"{chain.name}.{segment}", residues


def _usable(found: list[_Part], min_length: int, alike: dict[str, list[Chain]], skipped: SkippedFiles) -> list[Chain]:
    """Those that are not left out; `alike` has the ones before by sequence, and gets these."""
    chains = []
    for chain, numbers in found:
        reason = _unusable(chain, numbers, min_length, alike[chain.sequence])
        if reason:
            skipped.add(chain.name, reason)
        else:
            chains.append(chain)
            alike[chain.sequence].append(chain)
    return chains


def _unusable(chain: Chain, numbers: np.ndarray, min_length: int, alike: list[Chain]) -> str:
    """Why a chain is left out, in words that can be counted; empty if it is not."""
    if len(chain) < min_length:
        return f"of fewer than {min_length} residues"
    if not np.ptp(chain.points, axis=0).any():
        return "all at one point"
    steps = np.linalg.norm(np.diff(chain.points, axis=0), axis=1)
    if (steps[np.diff(numbers) == 1] > _TORN).any():
        return "torn apart, as by a periodic box"
    if any(np.abs(chain.points - other.points).max() <= _SAME for other in alike):
        return "the same as one before"
    return ""


def _check_coordinates(data: bytes) -> None:
    try:
        for match in _CA_COORDINATES.finditer(data):
            for start in (0, 8, 16):
                float(match[1][start : start + 8])
    except ValueError as error:
        raise _UnreadableError("coordinates that are no numbers") from error


def _contents(path: str, *, packed: bool) -> bytes:
    """All bytes of a file, unpacked."""
    try:
        if file_at(path) is None:  # to open a pipe would wait for its writer
            raise _UnreadableError("no file, or a link to nowhere")
        with open(path, "rb") as file:
            data = _unpacked(file) if packed else file.read(MAX_BYTES + 1)
    except OSError as error:
        check_own_fault(path, error)
        raise _UnreadableError(f"unreadable: {error.strerror or error}") from error
    if len(data) > MAX_BYTES:
        raise _UnreadableError(f"above {MAX_BYTES / 2**20:g} MiB unpacked")
    if not data.strip():
        raise _UnreadableError("empty")
    return data


def _unpacked(file: BinaryIO) -> bytes:
    """At most one byte more than `MAX_BYTES`: a small file may unpack to any size."""
    pieces, left = [], MAX_BYTES + 1
    try:
        with gzip.GzipFile(fileobj=file) as unpacked:
            while left and (piece := unpacked.read(min(_PIECE, left))):
                pieces.append(piece)
                left -= len(piece)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise _UnreadableError("damaged gzip") from error
    return b"".join(pieces)
