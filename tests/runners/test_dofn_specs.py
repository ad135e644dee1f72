import apache_beam as beam
import pytest
from apache_beam.coders import VarIntCoder
from apache_beam.transforms import core, userstate
from apache_beam.transforms.core import CallableWrapperDoFn
from apache_beam.transforms.timeutil import TimeDomain
from apache_beam.transforms.userstate import ReadModifyWriteStateSpec, TimerSpec, on_timer
from apache_beam.typehints.typecheck import TypeCheckWrapperDoFn

from runners.dofn_specs import _read as beams_own
from runners.dofn_specs import _read_arguments as beams_own_arguments
from runners.dofn_specs import dofn_specs, function_arguments, remember

COUNT = ReadModifyWriteStateSpec("count", VarIntCoder())
OTHER = ReadModifyWriteStateSpec("other", VarIntCoder())
ALARM = TimerSpec("alarm", TimeDomain.WATERMARK)
ASK_COUNT, ASK_OTHER = beam.DoFn.StateParam(COUNT), beam.DoFn.StateParam(OTHER)
ASK_ALARM = beam.DoFn.TimerParam(ALARM)


class Plain(beam.DoFn):
    def process(self, item):
        yield item


class Counts(beam.DoFn):
    def process(self, item, count=ASK_COUNT, alarm=ASK_ALARM):
        yield item

    @on_timer(ALARM)
    def ring(self, other=ASK_OTHER):
        yield None


class Doubled(beam.DoFn):
    def process(self, item, one=ASK_COUNT, two=ASK_COUNT):
        yield item


class Methods:
    def plain(self, item):
        return [item]

    def counts(self, item, count=ASK_COUNT):
        return [item]


def plain(item):
    return [item]


def counts(item, count=ASK_COUNT):
    return [item]


@pytest.mark.parametrize(
    "make",
    [
        Plain,
        Counts,
        lambda: CallableWrapperDoFn(plain),
        lambda: CallableWrapperDoFn(counts),
        lambda: CallableWrapperDoFn(Methods().plain),
        lambda: CallableWrapperDoFn(Methods().counts),
        lambda: CallableWrapperDoFn(str.split),
        lambda: TypeCheckWrapperDoFn(Plain(), Plain().get_type_hints()),
        lambda: TypeCheckWrapperDoFn(Counts(), Counts().get_type_hints()),
    ],
)
def test_every_kind_of_dofn_asks_for_what_beam_says(make):
    for dofn in (make(), make()):  # read, and remembered
        assert dofn_specs(dofn) == beams_own(dofn)
        for method in ("setup", "start_bundle", "process", "finish_bundle", "teardown"):
            assert function_arguments(dofn, method) == beams_own_arguments(dofn, method)


def test_dofns_of_one_class_that_wrap_different_methods_are_not_taken_for_one_another():
    assert dofn_specs(CallableWrapperDoFn(Methods().plain)) == (set(), set())
    assert dofn_specs(CallableWrapperDoFn(Methods().counts)) == ({COUNT}, set())
    assert dofn_specs(CallableWrapperDoFn(Methods().plain)) == (set(), set())


def test_a_state_that_is_asked_for_twice_is_refused_every_time():
    for _ in range(2):
        with pytest.raises(ValueError, match="duplicate process method parameters"):
            dofn_specs(Doubled())


def test_what_is_handed_out_is_a_copy():
    dofn_specs(Counts())[0].clear()
    function_arguments(Counts(), "process")[0].clear()

    assert dofn_specs(Counts()) == ({COUNT, OTHER}, {ALARM})
    assert function_arguments(Counts(), "process") == (["item", "count", "alarm"], [ASK_COUNT, ASK_ALARM])


def test_beam_asks_this_module_once_it_is_told_to(monkeypatch):
    monkeypatch.setattr(userstate, "get_dofn_specs", beams_own)
    monkeypatch.setattr(core, "get_function_arguments", beams_own_arguments)
    remember()

    assert userstate.get_dofn_specs is dofn_specs
    assert core.get_function_arguments is function_arguments
    assert userstate.is_stateful_dofn(Counts())
    assert not userstate.is_stateful_dofn(Plain())
