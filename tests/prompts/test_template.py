import pytest

from prompts.template import Prompt, Template, load_template


def test_a_prompt_is_the_system_part_and_the_user_part_with_slots_filled():
    template = Template("t", "You are {{role}}.\n---\nSay {{word}} and {{word}}.\n")

    assert template.render(role="kind", word="hi") == Prompt("You are kind.", "Say hi and hi.", template.version)


def test_what_is_filled_in_is_never_read_again():
    template = Template("t", "S\n---\n{{evidence}} then {{query}}")

    assert template.render(evidence="{{query}} \\1 \\g<0>", query="x").user == "{{query}} \\1 \\g<0> then x"


def test_a_separator_inside_the_evidence_starts_no_new_part():
    prompt = Template("t", "S\n---\n{{evidence}}").render(evidence="a\n---\nb")
    assert (prompt.system, prompt.user) == ("S", "a\n---\nb")


@pytest.mark.parametrize("values", [{}, {"a": "1", "b": "2"}, {"b": "2"}])
def test_a_missing_or_unknown_slot_is_named(values):
    with pytest.raises(KeyError, match=r"slots \['a'\]"):
        Template("t", "{{a}}\n---\nuser").render(**values)


def test_any_edit_is_a_new_version_and_any_rendering_another_hash():
    template = Template("t", "S\n---\n{{a}}")

    assert template.version != Template("t", "S \n---\n{{a}}").version
    assert template.render(a="1").sha256 != template.render(a="2").sha256
    assert Prompt("ab", "c").sha256 != Prompt("a", "bc").sha256


@pytest.mark.parametrize("name", ["caption", "judge", "write_queries"])
def test_every_prompt_file_has_both_parts(name):
    system, separator, user = load_template(name).source.partition("\n---\n")

    assert separator
    assert system.strip()
    assert user.strip()
    assert "\n---\n" not in user
