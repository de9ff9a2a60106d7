"""What XLA compiled, kept in the user's cache folder for the next start; how long compiling takes, said before it does.

compilation_cache.switch_on(warn=say)       # a command, once
lowered = jax.jit(step).lower(state, batch)
with compilation_cache.compiling(lowered, "the training step", tell=say):
    compiled = lowered.compile()
"""

import hashlib
import json
import os
import platform
import re
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import jax

from care_jax import storage
from care_jax.devices import distributed

Say = Callable[[str], None]

LIMIT = 2**30  # bytes, of all machines that share the home folder; what was used least lately goes first
LEAST_SECONDS = 0.2  # what compiles sooner is not kept
_TIMES = "care_jax_times.json"
_MOST_TIMES = 500
_REFUSED = re.compile(r"Error (reading|writing) persistent compilation cache entry for '(\w+)[^']*': (.*)", re.DOTALL)

_hits = 0


def switch_on(wanted: bool = True, *, warn: Say) -> None:
    """Keeps what is compiled from now on, and uses what was kept before.

    A folder that JAX is told of (JAX_COMPILATION_CACHE_DIR) is taken as it is, and so is JAX_ENABLE_COMPILATION_CACHE.
    Several processes use no folder that they aren't told of: one that finds a program while the others compile it
    may leave them waiting. Whatever goes wrong with the folder is said once, and no run ends for it.

    Args:
      wanted: False switches it off, for the processes that this one starts too.
      warn: told where it can't be used.
    """
    if not wanted:
        os.environ["JAX_ENABLE_COMPILATION_CACHE"] = "0"
        jax.config.update("jax_enable_compilation_cache", False)
    if not _configured("jax_enable_compilation_cache"):
        return
    _listen(warn)
    if _configured("jax_compilation_cache_dir") or distributed.is_active():
        return
    try:
        folder = default_folder()
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)  # who writes there runs code here
        probe = folder / f".{os.getpid()}"
        probe.write_bytes(b"")
        probe.unlink()
        prune(folder.parent, LIMIT)
    except (OSError, RuntimeError) as error:  # RuntimeError: there is no home
        reason = getattr(error, "strerror", None) or error
        where = getattr(error, "filename", None) or "the cache folder"
        warn(
            f"{where} can't be used ({reason}): nothing that is compiled is kept for the next start; XDG_CACHE_HOME "
            "names another folder, --nocompilation_cache none"
        )
        return
    jax.config.update("jax_compilation_cache_dir", str(folder))
    if "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS" not in os.environ:
        jax.config.update("jax_persistent_cache_min_compile_time_secs", LEAST_SECONDS)


def _configured(name: str) -> Any:
    return getattr(jax.config, name)


def default_folder() -> Path:
    """In `$XDG_CACHE_HOME`, or `~/.cache`; one for each kind of processor, which may not run another one's programs.

    Raises:
      RuntimeError: there is no home folder.
    """
    given = os.environ.get("XDG_CACHE_HOME", "")
    base = Path(given) if os.path.isabs(given) else Path.home() / ".cache"
    return base / "care_jax" / "compiled" / f"{platform.machine()}-{_processor()}"


def _processor() -> str:
    """Of its name and what it can do."""
    known = platform.processor()
    with suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text(errors="replace").splitlines()
        known = "\n".join(
            sorted({line for line in lines if re.match(r"(model name|flags|Features|CPU part)\s*:", line)})
        )
    return hashlib.sha256(known.encode()).hexdigest()[:8]


def prune(folder: Path, limit: int) -> None:
    """Removes the files below a folder that were used least lately until the rest is no larger than `limit` bytes."""
    files = []
    for path in folder.rglob("*"):
        with suppress(OSError):  # another process was faster
            if path.is_file():
                about = path.stat()
                files.append((max(about.st_atime, about.st_mtime), about.st_size, path))
    total = sum(size for _, size, _ in files)
    for _, size, path in sorted(files):
        if total <= limit:
            return
        with suppress(OSError):
            path.unlink()
        total -= size


def _listen(warn: Say) -> None:
    """Turns JAX's warnings of the folder into a line, and counts what it finds there."""
    show = warnings.showwarning
    if getattr(show, "of_the_cache", False):
        return
    jax.monitoring.register_event_listener(_count)
    said: set[str] = set()

    def show_warning(message: Warning | str, *place: Any, **more: Any) -> None:
        refused = _REFUSED.match(str(message))
        if refused is None:
            show(message, *place, **more)
            return
        doing, program, reason = refused.groups()
        _forget(program)
        if doing not in said:
            said.add(doing)
            what = (
                "read, and is compiled anew" if doing == "reading" else "kept: it is compiled again at the next start"
            )
            warn(f"{_configured('jax_compilation_cache_dir')}: a compiled program can't be {what} ({reason})")

    show_warning.of_the_cache = True  # type: ignore[attr-defined]
    warnings.showwarning = show_warning  # type: ignore[assignment]


def _count(event: str, **_: Any) -> None:
    global _hits
    _hits += event == "/jax/compilation_cache/cache_hits"


def _forget(program: str) -> None:
    """Removes what is kept of a program: half of a file, which JAX would not write over."""
    folder = Path(_configured("jax_compilation_cache_dir") or "")
    if not folder.is_relative_to(default_folder()):
        return
    for path in folder.glob(f"{program}-*-cache"):
        with suppress(OSError):
            path.unlink()


@contextmanager
def compiling(lowered: jax.stages.Lowered, what: str, *, tell: Say) -> Iterator[None]:
    """Says that the block compiles, how long that takes where it is known, and keeps how long it took.

    Known is the time of this very program, or of one that differs from it in numbers alone (sizes, rates), when it was
    last compiled on this machine.

    Args:
      lowered: what the block compiles.
      what: its name, in the line.
      tell: says the line.
    """
    text = lowered.as_text()
    this, like_this = _key(text), _key(re.sub(r"\d+", "0", text))
    times = _read_times()
    loads = times.get(this) if _is_there(text) else None
    tell(_announcement(what, times.get(like_this), loads, kept=_is_kept()))
    hits, began = _hits, time.perf_counter()
    yield
    seconds = round(time.perf_counter() - began, 2)
    found = _hits > hits
    times = _read_times()
    if found:
        times.pop(this, None)
        _write_times({**times, this: seconds})
    else:
        times.pop(like_this, None)
        # What is kept is loaded the next time; how fast, the next time shows.
        kept = _is_kept() and seconds >= _configured("jax_persistent_cache_min_compile_time_secs")
        _write_times({**times, like_this: seconds, **({this: 0.0} if kept else {})})
    tell(f"{'loaded' if found else 'compiled'} in {seconds:.0f} s")


def _announcement(what: str, compiles: float | None, loads: float | None, *, kept: bool) -> str:
    if loads is not None:
        return f"loading {what}, compiled before" + (f" (about {max(loads, 1):.0f} s)" if loads else "")
    note = "cached for the next time" if kept else "not cached: the next time takes as long"
    if compiles is None:
        return f"compiling {what} (for the first time on this machine: it may take a minute or more, {note})"
    return f"compiling {what} (about {max(compiles, 1):.0f} s on this machine, {note})"


def _is_kept() -> bool:
    return bool(_configured("jax_enable_compilation_cache") and _configured("jax_compilation_cache_dir"))


def _is_there(text: str) -> bool:
    """Whether programs of this one's name are kept: someone may have emptied the folder."""
    folder = _configured("jax_compilation_cache_dir")
    name = re.match(r"module @(\w+)", text)
    return bool(_is_kept() and name and (storage.is_url(folder) or any(Path(folder).glob(f"{name[1]}-*-cache"))))


def _key(text: str) -> str:
    device = jax.devices()[0]
    environment = [os.environ.get(name, "") for name in ("XLA_FLAGS", "LIBTPU_INIT_ARGS")]
    optimized = not jax.config.read("jax_disable_most_optimizations")
    identity = [jax.__version__, device.device_kind, jax.device_count(), *environment, optimized, text]
    return hashlib.sha256("\0".join(map(str, identity)).encode()).hexdigest()[:16]


def _times_file() -> Path | None:
    folder = _configured("jax_compilation_cache_dir") if _is_kept() else None
    if folder and storage.is_url(folder):
        return None
    with suppress(RuntimeError):
        return Path(folder) / _TIMES if folder else default_folder() / _TIMES
    return None


def _read_times() -> dict[str, float]:
    """Seconds by the key of a program: of loading it by its own, of compiling it by that of those like it."""
    file = _times_file()
    with suppress(OSError, ValueError):
        times = json.loads(file.read_bytes()) if file else {}
        if isinstance(times, dict):
            return {key: float(seconds) for key, seconds in times.items() if isinstance(seconds, (int, float))}
    return {}


def _write_times(times: dict[str, float]) -> None:
    file = _times_file()
    if file is None or not distributed.is_first():
        return
    with suppress(OSError):  # it is for a line alone
        storage.replace_file(file, json.dumps(dict(list(times.items())[-_MOST_TIMES:])))
