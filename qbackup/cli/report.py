"""Reports for people: progress, warnings, faults, the outcome of `verify` and `restore`."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence

from qbackup.base.errors import QBackupError
from qbackup.base.names import display
from qbackup.base.report import ByteRange, FileResult, Progress, Report, Verdict
from qbackup.cli import output
from qbackup.cli.exit_status import EXIT_INCOMPLETE, EXIT_OK
from qbackup.cli.progress import ProgressLine, ShowsProgress, human_size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from qbackup.archive.firewalls import Firewall

_SHOWN = 20
_RANGES_SHOWN = 5
# By verdict, the rest of the last line: it says why the exit status is not 0.
_WHOLE_BUT: Mapping[Verdict, str] = {
    "header": "ARE WHOLE ({}); the backup's header is not, and was replaced as said above. The exit"
    " status is 1 because of the header.",
    "other": "ARE WHOLE ({}); the file holds another backup too (see above). The exit status is 1"
    " because of that one.",
    "unproven": "THAT ARE PROVEN ARE WHOLE ({}); {} others can't be verified, and nothing proves"
    " that they were ever in the backup (see above). The exit status is 1 because of these.",
}
_NOT_WHOLE = "not whole"
_OVER_A_LIMIT = "not read (a limit is in the way)"
_UNPROVEN = "that nothing proves"
_IN_THE_WAY = "not written (something is in the way)"
_KINDS = (_NOT_WHOLE, _OVER_A_LIMIT, _UNPROVEN, _IN_THE_WAY)  # in the order of a report's sum
_CHOSEN = "whoever held the disk may have chosen these bytes"


@contextlib.contextmanager
def shown_progress(*, quiet: bool) -> Iterator[ShowsProgress | None]:
    """Shows progress on standard error within this context; None where nothing is to be shown."""
    if quiet:
        yield None
        return
    progress = _make_progress()
    try:
        yield progress
    finally:
        progress.clear()


def _make_progress() -> ShowsProgress:
    if output.is_pretty(sys.stderr):
        from qbackup.cli.pretty import LiveProgress

        return LiveProgress(sys.stderr)
    return ProgressLine(sys.stderr)


def print_warnings(warnings: Sequence[str]) -> None:
    """Prints a line for each warning on standard error."""
    for warning in warnings:
        output.print_message(f"warning: {warning}")


def print_errors(errors: Sequence[str]) -> int:
    """Prints a line for each error on standard error; returns the exit status."""
    for error in errors:
        output.print_message(f"qbackup: {error}")
    return EXIT_INCOMPLETE if errors else EXIT_OK


def firewall_errors(firewalls: Mapping[str, Firewall]) -> list[str]:
    """The reasons why rules can't be had, one sentence for each qube."""
    return [str(error) for error in firewalls.values() if isinstance(error, QBackupError)]


class EarlyWarnings:
    """Printer of the warnings that are known when the work on the first file begins.

    Who is told beforehand that the disk may be too small can still take another one. Callable, as
    the library reports progress.

    Args:
        known: gives the warnings until now.
        progress: the display of progress; None where nothing is shown.

    Attributes:
        printed: warnings that were printed.
    """

    def __init__(self, known: Callable[[], Sequence[str]], progress: ShowsProgress | None) -> None:
        self.printed: Sequence[str] = ()
        self._known = known
        self._progress = progress
        self._is_begun = False

    def __call__(self, progress: Progress) -> None:
        """Prints the warnings, the first time only; then shows the progress."""
        if not self._is_begun:
            self._is_begun = True
            self.printed = tuple(self._known())
            if self.printed and self._progress is not None:
                self._progress.clear()
            print_warnings(self.printed)
        if self._progress is not None:
            self._progress(progress)


def print_report(
    options: argparse.Namespace,
    report: Report,
    progress: ShowsProgress | None,
    printed: Sequence[str] = (),
) -> int:
    """Prints the final report of `verify` or `restore`; returns the exit status.

    Args:
        options: of the command.
        report: the outcome.
        progress: the display of progress, which is cleared.
        printed: warnings that were printed already.
    """
    if progress is not None:
        progress.clear()
    print_warnings([warning for warning in report.warnings if warning not in printed])
    if not report.ok:
        from qbackup.cli.protect.repair import repair_command

        report = dataclasses.replace(report, repair=repair_command(options.backup))
    if options.json:
        from qbackup.cli.documents import report_document, to_json

        output.print_result(to_json(report_document(report)))
    elif output.is_pretty(sys.stdout):
        from qbackup.cli import pretty

        output.print_styled(pretty.report(sys.stdout, report_text(report)))
    else:
        output.print_result(report_text(report))
    return EXIT_OK if report.ok else EXIT_INCOMPLETE


def report_text(report: Report, *, stopped: bool = False) -> str:
    """The final report: everything that is not whole, then the sum.

    Args:
        report: the outcome for each file.
        stopped: the command did not come to its end, so even a good report is no success.
    """
    lines = []
    for result in report.files:
        if not result.unproven:
            lines += _result_lines(result)
    lines += _unproven_lines(report)
    lines += _archive_lines(report)
    lines += [f"what to do: {text}" for text in ([] if stopped else report.advice)]
    return "\n".join([*lines, _sum(report, stopped=stopped), *_unverified_sum(report)])


def _result_lines(result: FileResult) -> list[str]:
    """Gives a file's notes, and its losses if it is not whole."""
    name = _shown_name(result)
    lines = [f"{name}: {note}" for note in result.notes]
    if not result.ok:
        lines.append(f"{result.status.upper()}  {name}: {result.error}")
        lines += _damage_lines(result)
    return lines


def _shown_name(result: FileResult) -> str:
    return display(f"{result.qube}/{result.name}" if result.qube else result.name)


def _unproven_lines(report: Report) -> list[str]:
    """Gives the first files that nothing proves, then their number by status."""
    results = [result for result in report.files if result.unproven]
    lines = [line for result in results[:_SHOWN] for line in _result_lines(result)]
    counts = {files.status: files.count for files in report.unproven}
    first = {files.status: files.first for files in reversed(report.unproven)}
    for result in reversed(results):
        counts[result.status] = counts.get(result.status, 0) + 1
        first[result.status] = result
    for status, count in counts.items():
        lines.append(
            f"UNPROVEN  {count} {'file' if count == 1 else 'files'} with the status {status}, the"
            f" first of them {_shown_name(first[status])}: nothing proves that such a file was"
            " ever in the backup; anybody who can write to the storage can have added it"
        )
    return lines


def _sum(report: Report, *, stopped: bool) -> str:
    good = [result for result in report.files if result.ok]
    total = human_size(sum(result.size for result in good))
    kept = sum(result.status == "kept" and bool(result.qube) for result in good)
    if kept:
        total += f"; {kept} already there, and read again"
    if report.ok and not stopped:
        return f"All {len(good)} files are there, verified and whole ({total})."
    if not stopped and report.verdict in _WHOLE_BUT:
        return f"ALL {len(good)} FILES {_WHOLE_BUT[report.verdict].format(total, report.bad_count)}"
    if not (stopped or report.bad_count):
        verdict = "IS NOT WHOLE"
        if report.archive_limit and len(report.errors) == 1:
            verdict = "WAS NOT READ TO ITS END"
        return (
            f"THE ARCHIVE {verdict} (see above), but all {len(good)} files that were found are"
            f" whole ({total})."
        )
    verdict = "STOPPED BEFORE THE END" if stopped else "NOT EVERYTHING IS THERE"
    return f"{verdict}: {', '.join([*_counts(report), f'{len(good)} whole ({total})'])}."


def _counts(report: Report) -> list[str]:
    """Counts the files that are not there and whole, by kind; a limit is no damage."""
    kinds = Counter(_kind(result) for result in report.bad)
    for files in report.unproven:
        kinds[_kind(files.first)] += files.count
    return [f"{kinds[kind]} {kind}" for kind in _KINDS if kinds[kind]]


def _kind(result: FileResult) -> str:
    if result.status == "exists":
        return _IN_THE_WAY
    if result.unproven:
        return _UNPROVEN
    return _OVER_A_LIMIT if result.status == "limit" else _NOT_WHOLE


def _damage_lines(result: FileResult) -> list[str]:
    """The losses of a damaged file, where they were looked for."""
    others = [chunk for chunk in result.lost_chunks if chunk != result.error]
    lines = [f"    lost too: {chunk}" for chunk in _some(others)]
    if result.ranges:
        of = " of the archive that it is stored in" if result.unplaced else ""
        shown = [_range(part) for part in result.ranges[:_RANGES_SHOWN]]
        more = len(result.ranges) - len(shown) + result.ranges_left_out
        lines.append(f"    bytes{of}: {_and_more(shown, more, result)}")
        lines += _share(result)
    lines += _places(result)
    if result.unplaced and result.kept_as:
        lines.append(
            "    its beginning is lost, which told where each byte belongs: what was kept is not an"
            " image, but tools that search raw data for files can read it"
        )
    if result.kept_as:
        kept = f"    what could be verified was kept as {display(result.kept_as)}"
        lines.append(
            kept + (f" (its bytes: {display(result.ranges_as)})" if result.ranges_as else "")
        )
    return [*lines, *_unplaced(result), *_unverified(result)]


def _share(result: FileResult) -> list[str]:
    """How much of a damaged file is good, where its length is known."""
    size = result.ranges[-1].end
    if not size or result.unplaced:
        return []
    lost = [part for part in result.ranges if part.state != "good"]
    missing = sum((part.end or size) - part.start for part in lost)
    places = "1 place" if len(lost) == 1 else f"{len(lost)} places"
    share = 100 * (size - missing) // size
    lines = [f"    {share} % of it is good; {human_size(missing)} lost in {places}"]
    if result.ranges_left_out:
        lines.append(
            f"    {result.ranges_left_out} further ranges are not told apart and count as lost"
            " (--limit damaged_ranges)"
        )
    return lines


def _places(result: FileResult) -> list[str]:
    """Gives the places of lost chunks in the backup's file, which can be read again."""
    places = result.lost_places
    if not places:
        return []
    shown = [f"{place.offset}-{place.offset + place.size}" for place in places[:_RANGES_SHOWN]]
    text = _and_more(shown, len(places) - len(shown), result)
    what = "its lost chunk is" if len(places) == 1 else "its lost chunks are"
    return [f"    in the backup's file {what} at the bytes {text}: try to read these again"]


def _and_more(shown: list[str], more: int, result: FileResult) -> str:
    """Joins what is shown, and says where the rest is."""
    where = f"{display(result.ranges_as)}, or --json" if result.ranges_as else "--json"
    return ", ".join(shown) + (f", and {more} more (see {where})" if more > 0 else "")


def _unplaced(result: FileResult) -> list[str]:
    """The verified bytes whose place in a damaged file is not known."""
    if not result.unplaced_size:
        return []
    size = human_size(result.unplaced_size)
    lines = [f"    {size} behind a lost chunk could be verified, and nothing shows their place"]
    if result.unplaced_as:
        lines.append(
            f"    they were kept as {display(result.unplaced_as)}, which is no image; tools that"
            " search for files in raw data can read it"
        )
    return lines


def _unverified(result: FileResult) -> list[str]:
    """The bytes of a damaged file that nothing proves, where the user asked for them."""
    lines = []
    if result.unverified_as:
        size = human_size(sum((part.end or 0) - part.start for part in result.unverified))
        spans = _some([f"{part.start}-{part.end}" for part in result.unverified])
        lines += [
            f"    {size} that nothing proves were kept as {display(result.unverified_as)}:"
            f" {_CHOSEN}",
            f"    bytes that are not verified: {', '.join(spans)}",
        ]
    if result.unverified_left_out:
        size = human_size(result.unverified_left_out)
        lines.append(f"    {size} more could be decoded, and nothing shows their place: left out")
    return lines


def _unverified_sum(report: Report) -> list[str]:
    """The last line, where anything was kept that nothing proves."""
    count = sum(result.unverified_as is not None for result in report.files)
    if not count:
        return []
    files = "1 file holds" if count == 1 else f"{count} files hold"
    return [f"UNVERIFIED: {files} bytes that nothing proves (NAME.unverified): {_CHOSEN}."]


def _range(part: ByteRange) -> str:
    return f"{part.start}-{'?' if part.end is None else part.end} {part.state}"


def _some(texts: Sequence[str]) -> list[str]:
    """The first of the texts, as many as people want to read."""
    more = len(texts) - _SHOWN
    return [*texts[:_SHOWN], *([f"{more} more (see --json)"] if more > 0 else [])]


def _archive_lines(report: Report) -> list[str]:
    """Faults of the archive as a whole; the last may be a limit and no damage."""
    lines = [f"ARCHIVE  {error}" for error in report.errors]
    if report.archive_limit:
        lines[-1] = f"LIMIT  the archive: {report.errors[-1]}"
    return lines
