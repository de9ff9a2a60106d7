"""The costs of a step as text for a reader; the same numbers as in the JSON file."""

import math
from typing import Any

from care_jax.cost.estimate import Report
from care_jax.devices.memory import amount

_WIDTH = 14
_NAME = 76  # characters of an operation's name that are shown, its last ones
_NOT_KNOWN = "not known"


def text(report: Report) -> str:
    """Aligned lines, one for each entry of a report."""
    lines = [
        ("topology", f"{report['topology']}: {report['devices']:,} x {report['device']}"),
        ("step", _step(report)),
        ("data", f"{report['num_examples']:,} training {report['inputs']} ({report['num_examples_source']})"),
        ("compiles", _compiles(report)),
    ]
    if report["compiles"]:
        lines += [*_memory(report["memory"]), *_work(report), *_collectives(report), *_floor(report)]
        lines += [*_largest(report), *_warnings(report["warnings"])]
    else:
        lines.append(("reason", report["reason"]))
    return "\n".join(f"{name:{_WIDTH}}{line}".rstrip() for name, line in lines)


def _step(report: Report) -> str:
    share = report["batch_size"] / report["devices"]
    parts = f", {report['micro_batches']} micro-batches" if report["micro_batches"] > 1 else ""
    remat = ", remat" if report["remat"] else ""
    return (
        f"batch {report['batch_size']:,} ({share:,.0f} a device){parts}{remat}, {report['dtype']}, views made by "
        f"{report['placement']!r}"
    )


def _compiles(report: Report) -> str:
    effort, seconds = report["effort"], f"{report['compile_seconds']:.0f} s"
    if not report["compiles"]:
        return f"no, in {seconds}"
    note = f" (effort {effort:g}: the launched program is faster than these figures)" if effort < 0 else ""
    return f"yes, in {seconds}{note}"


def _memory(memory: Report) -> list[tuple[str, str]]:
    parts = ", ".join(f"{name} {amount(memory[name])}" for name in ("arguments", "temporaries", "outputs", "program"))
    available = memory["available"]
    if available is None:
        of = f"of a device's memory, which is {_NOT_KNOWN}"
    else:
        fits = "fits" if memory["peak"] <= available else "DOES NOT FIT"
        of = f"of {amount(available)} ({memory['peak'] / available:.0%}): it {fits}"
    return [("memory", f"peak {amount(memory['peak'])} {of}"), ("", parts)]


def _work(report: Report) -> list[tuple[str, str]]:
    operations, moved = report["operations"], report["bytes"]
    types = ", ".join(f"{count / 1e9:,.1f} in {dtype}" for dtype, count in operations["by_type"].items())
    lines = [
        ("operations", f"{operations['total'] / 1e9:,.1f} GFLOP a device in matrix products ({types})"),
        ("", f"{operations['needed'] / 1e9:,.1f} are needed, the rest is computed again"),
    ]
    if operations["needed"] > 0.99 * operations["total"]:
        del lines[1]
    if operations["not_counted"]:
        calls = ", ".join(f"{name} x {times}" for name, times in operations["not_counted"].items())
        lines.append(("", f"without those of calls that the compiler does not show: {calls}"))
    padding = f", {moved['padding'] / moved['total']:.0%} of it padding" if moved["padding"] else ""
    lines.append(("bytes", f"{amount(moved['total'])} a device to and from memory{padding}"))
    if moved["cache"]:
        lines.append(
            ("", f"{amount(moved['beyond_cache'])} of arrays that its cache of {amount(moved['cache'])} can't hold")
        )
    if report["instructions_in_loops_of_unknown_length"]:
        lines.append(("", "there are loops whose length the program does not say: each counts as one turn"))
    return lines


def _collectives(report: Report) -> list[tuple[str, str]]:
    if not report["collectives"]:
        return [("collectives", "none")]
    rows = [
        (f"{one['number']:,} {one['kind']}", one["type"], amount(one["bytes"], exact=True))
        for one in report["collectives"]
    ]
    widths = [max(len(row[i]) for row in rows) for i in range(3)]
    shown = [f"{kind:{widths[0]}}  {dtype:{widths[1]}}  {size:>{widths[2]}}" for kind, dtype, size in rows]
    return [("" if i else "collectives", line) for i, line in enumerate(shown)]


def _floor(report: Report) -> list[tuple[str, str]]:
    floor = report["floor"]
    by = [
        f"{name} {_NOT_KNOWN if seconds is None else milliseconds(seconds)}"
        for name, seconds in (("operations", floor["seconds_by_operations"]), ("bytes", floor["seconds_by_bytes"]))
    ]
    lines = [("floor", f"of a step by {by[0]}, by {by[1]}")]
    if floor["seconds"] is not None:
        each = floor["images_per_second_per_device"]
        together = f"{each:,.0f} {report['inputs']}/s a device, {each * report['devices']:,.0f} together"
        lines.append(("at best", f"{together}, at {_share(floor['share_of_peak'])} of the peak"))
    else:
        lines.append(("", f"the peak of this device is {_NOT_KNOWN}: --measure, or --peak_flops and --bandwidth"))
    if report["compiler"]["seconds"]:
        lines.append(("compiler", f"estimates {milliseconds(report['compiler']['seconds'])}, a loop counted once"))
    return lines


def _largest(report: Report) -> list[tuple[str, str]]:
    total = report["bytes"]["total"] or 1
    rows = []
    for one in report["largest"]:
        kind = f"{one['kind']} x {one['times']}" if one["times"] > 1 else one["kind"]
        first, *others = one["result"] or [""]
        result = f"{first} + {len(others)}" if others else first
        name = one["name"] if len(one["name"]) <= _NAME else f"...{one['name'][3 - _NAME :]}"
        rows.append((f"{amount(one['bytes']):>9} {one['bytes'] / total:>4.0%}", kind, result, name))
    widths = [max((len(row[i]) for row in rows), default=0) for i in range(3)]
    lines = ["  ".join(f"{part:{width}}" for part, width in zip(row, [*widths, 0], strict=True)) for row in rows]
    return [("" if i else "largest", line) for i, line in enumerate(lines)]


def _warnings(warnings: list[str]) -> list[tuple[str, str]]:
    if not warnings:
        return [("warnings", "none: no float64, no host callback, no copy of resident examples, little padding")]
    return [("" if i else "warnings", line) for i, line in enumerate(warnings)]


def _share(share: float | None) -> str:
    return _NOT_KNOWN if share is None else f"{share:.1%}"


def milliseconds(seconds: float) -> str:
    """With three digits that count.

    >>> milliseconds(0.0213), milliseconds(0.0000044), milliseconds(12.5)
    ('21.3 ms', '0.00440 ms', '12,500 ms')
    """
    value = 1e3 * seconds
    digits = max(0, 2 - math.floor(math.log10(value))) if value > 0 else 0
    return f"{value:,.{digits}f} ms"


def suggestion(tried: list[dict[str, Any]], best: int | None) -> str:
    """What was tried to find the largest batch, and what came of it."""
    lines = [
        f"{'tried' if not i else '':{_WIDTH}}batch {one['batch_size']:>7,}: "
        + (f"peak {amount(one['peak'])}" if one["peak"] is not None else one["reason"])
        + ("" if one["fits"] else ", does not fit")
        for i, one in enumerate(tried)
    ]
    found = (
        f"--config.train.batch_size={best} (the learning rate does not follow by itself)"
        if best
        else "no batch fits: more devices, --config.train.micro_batches, --config.model.remat=True"
    )
    return "\n".join([*lines, f"{'suggestion':{_WIDTH}}{found}"])
