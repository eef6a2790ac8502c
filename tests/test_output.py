"""Files that are written whole or not at all."""

import asyncio
import os
import select
import sys
from pathlib import Path

import psutil
import pytest

from service import output
from tests.support.waiting import until

PRINTS_TWO_MEGABYTES = "from service import output\nwith output.whole('-') as target: target.write('x' * 2_000_000)"


def test_a_file_is_replaced_with_its_mode_kept(tmp_path: Path) -> None:
    (tmp_path / "links.csv").write_text("old")
    (tmp_path / "links.csv").chmod(0o600)
    (tmp_path / "latest.csv").symlink_to("links.csv")
    with output.whole(str(tmp_path / "latest.csv")) as target:
        target.write("new é")
        assert (tmp_path / "links.csv").read_text() == "old"
    assert (tmp_path / "links.csv").read_text(encoding="utf-8") == "new é"
    assert (tmp_path / "links.csv").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "latest.csv").is_symlink()


@pytest.mark.parametrize("before", [{}, {"links.csv": "old"}])
def test_what_fails_half_way_leaves_what_was_there(tmp_path: Path, before: dict[str, str]) -> None:
    for name, text in before.items():
        (tmp_path / name).write_text(text)

    def interrupted() -> None:
        with output.whole(str(tmp_path / "links.csv")) as target:
            target.write("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == before


def test_a_pipe_gets_what_is_written() -> None:
    reader, writer = os.pipe()
    with os.fdopen(reader) as ours:
        with os.fdopen(writer), output.whole(f"/dev/fd/{writer}") as target:
            target.write("text")
        assert ours.read() == "text"


async def test_a_writer_that_is_stopped_in_the_middle_loses_nothing() -> None:
    reader, writer = os.pipe()
    with os.fdopen(reader, "rb") as ours:
        with os.fdopen(writer, "wb") as theirs:
            started = await asyncio.create_subprocess_exec(
                sys.executable, "-u", "-c", PRINTS_TWO_MEGABYTES, stdout=theirs
            )
            await until(lambda: not select.select([], [theirs], [], 0)[1])
        process = psutil.Process(started.pid)
        process.suspend()
        await until(lambda: process.status() == psutil.STATUS_STOPPED)
        process.resume()
        assert len(ours.read()) == 2_000_000
        assert await started.wait() == 0
