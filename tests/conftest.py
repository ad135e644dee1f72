"""Fixtures that several test files share."""

from __future__ import annotations

import atexit
import gc
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:  # the process that hands out the tests runs none, and imports no library of theirs
    from tests.support.tiny_llm import TinyLlm
    from transforms.journal.journal import Journal

ROOT = Path(__file__).parent.parent

# Files whose tests take longest, longest first: begun last, they would keep one process busy when the others are done.
LONG = (
    "test_resume",
    "test_kill",
    "test_run",
    "test_sampled_plan",
    "test_trainer_run",
    "test_plan",
    "test_wheel",
    "test_first_stages",
    "test_object_store",
    "test_llama_server",
    "test_video_colbert_run",
    "test_poison",
    "test_submit",
    "test_pyav",
    "test_transformers_serve",
    "test_trainer_rerank",
    "test_transcribe",
    "test_chat_templates",
    "test_verify_rows",
    "test_faulty_server",
    "test_video_colbert_retrieve",
    "test_decode",
    "test_not_published",
    "test_read_text",
    "test_transformers_teacher",
    "test_secrets",
    "test_view",
    "test_batch",
    "test_usage_of_a_run",
    "test_sandbox",
    "test_audio",
    "test_rapidocr",
    "test_search_vectors",
    "test_faster_whisper",
    "test_easyocr",
    "test_publish",
    "test_pocketsphinx",
    "test_copies_of_a_clip",
    "test_verify_records",
    "test_card",
    "test_demo_on_llama",
    "test_diff_queries",
    "test_diff",
    "test_local",
    "test_agreement",
    "test_explain",
    "test_diff_text",
    "test_clock",
    "test_served_prior",
    "test_near_duplicates",
    "test_verify",
    "test_openai_embeddings",
)


def _end_at_once(pid: int) -> None:
    if os.getpid() == pid:
        os._exit(0)


if "PYTEST_XDIST_WORKER" in os.environ:
    # As ``hardquery`` itself ends: libraries take three seconds of a processor to take themselves apart.
    atexit.register(_end_at_once, os.getpid())


def pytest_xdist_auto_num_workers() -> int:
    """One more than there are cores, as tests wait too: for servers, kills and limits; each may take 3 GB of memory."""
    from runners.request import cores

    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return max(1, min(cores() + 1, memory // (3 << 30)))


def pytest_xdist_setupnodes(config: pytest.Config) -> None:
    """Where the whole suite is run, import once for all of its processes."""
    if config.args_source is config.ArgsSource.TESTPATHS:
        from tests.support.suite_process import fork_suite_processes

        fork_suite_processes()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let long files begin first; the order within a file stays."""
    rank = {name: number for number, name in enumerate(LONG)}
    items.sort(key=lambda item: rank.get(item.path.stem, len(LONG)))


def pytest_collection_finish() -> None:
    """What is imported by now is no garbage, and none has to look at it again: a tenth of the time of small runs."""
    from runners.cli.main import SELDOM

    gc.freeze()
    gc.set_threshold(*SELDOM)


@pytest.fixture(scope="session", autouse=True)
def _as_in_runs() -> None:
    """Pipelines of tests are built as those of runs are, and no thread of Beam tears their elements in two.

    Where one does (see ``make_pipeline``), what is read as the number of an element's windows may be any four bytes:
    up to 17 GB of them.
    """
    from apache_beam.runners.portability.fn_api_runner import worker_handlers

    from runners import dofn_specs, quick_graph

    dofn_specs.remember()
    quick_graph.remember()
    worker_handlers.DATA_BUFFER_TIME_LIMIT_MS = 0


@pytest.fixture(scope="session")
def samples() -> Path:
    """The sample corpus that the project ships."""
    return ROOT / "samples"


@pytest.fixture(scope="session")
def extra_media() -> Path:
    """Real clips that the project does not ship; tests that need them are skipped where they are absent."""
    folder = Path(os.environ.get("HARDQUERY_TEST_MEDIA", ROOT.parent / "shared" / "media"))
    if not folder.is_dir():
        pytest.skip(f"no extra media at {folder}; set HARDQUERY_TEST_MEDIA to a folder of real clips")
    return folder


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    """An empty journal, in the same place as a cache at ``tmp_path / "cache"``."""
    from transforms.journal.journal import Journal

    with closing(Journal(str(tmp_path / "cache"))) as journal:
        yield journal


Made = Callable[[str, Callable[[Path], object]], Path]


@pytest.fixture(scope="session")
def made_once(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """A folder of a name, which the first test process that asks for it fills for all of them; none may change it."""
    from transforms.storage.file_lock import FileLock

    base = tmp_path_factory.getbasetemp()
    base = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base

    def made(name: str, make: Callable[[Path], object]) -> Path:
        done, half = base / name, base / f"{name}.half"
        with FileLock(str(base / f"{name}.lock"), wait=True):
            if not done.exists():
                shutil.rmtree(half, ignore_errors=True)  # of a process that was interrupted
                half.mkdir()
                make(half)
                half.rename(done)
        return done

    return made


@pytest.fixture(scope="session")
def short_clips(samples: Path, made_once: Made) -> Path:
    """The first two seconds of every sample clip, for runs whose point is not what is seen and heard."""

    def make(folder: Path) -> None:
        from tests.support.altered_clips import write_beginning

        for clip in sorted((samples / "videos").glob("*.mp4")):
            write_beginning(clip, folder / clip.name, 2.0)

    return made_once("short_clips", make)


@pytest.fixture(scope="session")
def random_llm(made_once: Made) -> TinyLlm:
    """A language model with random weights, on disk."""
    from tests.support.tiny_llm import make_tiny_llm, tiny_llm_in

    return tiny_llm_in(made_once("random_llm", make_tiny_llm))


@pytest.fixture(scope="session")
def taught_llm(made_once: Made) -> TinyLlm:
    """One that gives verdicts, and says how sure it is, when it is asked by this project's prompts."""
    from tests.support.tiny_llm import make_tiny_llm, tiny_llm_in, verdict_lessons

    return tiny_llm_in(made_once("taught_llm", lambda folder: make_tiny_llm(folder, verdict_lessons())))


@pytest.fixture(scope="session")
def whisper_checkpoint(made_once: Made) -> Path:
    """A small checkpoint over-fitted on three made-up sounds, as openai-whisper's own files are."""
    pytest.importorskip("whisper")
    from tests.support.tiny_whisper import write_memorised_checkpoint

    return made_once("whisper", lambda folder: write_memorised_checkpoint(folder / "memorised.pt")) / "memorised.pt"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """What tests measured, as a table: the rates of published weights."""
    reports = [report for kind in ("passed", "failed") for report in terminalreporter.getreports(kind)]
    rows = [(report.nodeid.partition("::")[2], *found) for report in reports for found in report.user_properties]
    if rows:
        terminalreporter.write_line("\n| test | measure | value |\n|---|---|---:|")
        for row in sorted(rows):
            terminalreporter.write_line(f"| {' | '.join(map(str, row))} |")
