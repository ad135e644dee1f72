"""Language models that say what they are told to."""

import pytest

from tests.support.local_teacher import engine_of
from tests.support.talking_llm import FAMILIES, TEMPLATE, VERDICT, make_talking_llm
from transforms.protocols.engine import loaded


@pytest.fixture(scope="module", params=FAMILIES)
def judge_folder(request, tmp_path_factory):
    """A model that always comes to its answer tag, and then says what depends on the prompt."""
    return make_talking_llm(tmp_path_factory.mktemp(request.param) / "llm", VERDICT, request.param, goes_on=True)


@pytest.fixture(scope="session")
def qwen_folder(made_once):
    return made_once("qwen", lambda folder: make_talking_llm(folder / "llm", VERDICT, goes_on=True)) / "llm"


@pytest.fixture(scope="module")
def rambling_folder(tmp_path_factory):
    return make_talking_llm(tmp_path_factory.mktemp("rambling") / "llm", (), goes_on=True)


@pytest.fixture
def talking(tmp_path):
    """A teacher that says these pieces and ends."""

    def make(*says, template=TEMPLATE, **options):
        return loaded(engine_of(make_talking_llm(tmp_path / "llm", says, template=template), **options))

    return make
