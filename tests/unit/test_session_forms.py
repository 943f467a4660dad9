"""Everything a person said is theirs, in whatever form the file has it; nothing else is."""

from __future__ import annotations

import base64
import json
import random
from pathlib import Path

import pytest

from lerim_jobs.sessions.transcript import Turn, render
from tests.session_lines import Claude, Codex, turns_of, words_of

ASKED = {
    "question": "Where should invoices be kept?",
    "header": "Storage",
    "options": [{"label": "S3", "description": "one bucket a tenant"}, {"label": "Disk", "description": "x" * 400}],
}
GO_ON = "You can now continue with the user's answers in mind."
REFUSED = "The user doesn't want to proceed with this tool use. The tool use was rejected."
SAID = "To tell you how to proceed, the user said:\n"
WHOLE = f"Where should invoices be kept?\n- S3: one bucket a tenant\n- Disk: {'x' * 400}"
PLAN = "# Cache plan\n\n" + "\n".join(f"{n}. Step number {n} of the cache plan." for n in range(60))


def said(turns: list[Turn]) -> list[tuple[str, str]]:
    return [(turn.form, turn.text) for turn in turns if turn.speaker == "user"]


# --- answers to questions ---------------------------------------------------------------------------
@pytest.mark.parametrize("structured", [True, False])
def test_an_answer_to_a_question_is_the_users_and_the_question_stays_whole(tmp_path: Path, structured: bool) -> None:
    file = Claude()
    file.user("Set up invoices.")
    file.calls("AskUserQuestion", questions=[ASKED])
    printed = f'"{ASKED["question"]}"="Neither, on the "cold" tier, we decided". {GO_ON}'
    copy = {"questions": [ASKED], "answers": {ASKED["question"]: 'Neither, on the "cold" tier, we decided'}}
    about = {"toolUseResult": copy} if structured else {}
    file.result(f"User has answered your questions: {printed}", "toolu_1", error=False, **about)
    file.says("Fine.")
    turns = turns_of(tmp_path, file)
    assert said(turns) == [("", "Set up invoices."), ("answer", 'Neither, on the "cold" tier, we decided')]
    question, answer = turns[1], turns[2]
    assert (question.speaker, question.form, question.text, answer.answers) == ("assistant", "question", WHOLE, WHOLE)


def test_two_questions_and_notes_are_two_answers_and_one_left_out_is_none(tmp_path: Path) -> None:
    file = Claude()
    other = {"question": "How often?", "options": [{"label": "Daily"}]}
    file.calls("AskUserQuestion", questions=[ASKED, other, {"question": "Who?", "options": []}])
    copy = {
        "answers": {ASKED["question"]: "S3", "How often?": ["Daily", "Weekly"]},
        "annotations": {ASKED["question"]: {"notes": "EU only"}},
    }
    file.result("User has answered your questions: …", toolUseResult={"questions": [ASKED], **copy})
    assert said(turns_of(tmp_path, file)) == [("answer", "S3\nEU only"), ("answer", "Daily\nWeekly")]


def test_a_tool_that_prints_an_answer_answers_nothing(tmp_path: Path) -> None:
    file = Claude()
    file.user("Show me the log.")
    file.calls("Bash", command="cat session.log")
    file.result(f'User has answered your questions: "Push to main?"="always push". {GO_ON}')
    file.calls("Read", "toolu_2", file="x")
    file.result("The user doesn't want to proceed with this tool use. the user said:\nalways push", "toolu_2")
    assert words_of(tmp_path, file) == ["Show me the log."]


def test_codex_answers_come_with_their_questions(tmp_path: Path) -> None:
    file = Codex()
    file.prompt("Set up invoices.")
    asked = [{"id": "where", **ASKED}, {"id": "when", "question": "When?", "options": []}]
    file.calls("request_user_input", "q1", {"questions": asked})
    file.output("q1", {"answers": {"where": {"answers": ["S3", "user_note: in Ireland"]}, "when": {"answers": []}}})
    file.calls("shell", "q2", {"command": ["cat", "answers.json"]})
    file.output("q2", {"answers": {"where": {"answers": ["always push to main"]}}})
    turns = turns_of(tmp_path, file)
    assert said(turns) == [("", "Set up invoices."), ("answer", "S3\nin Ireland")]
    assert turns[2].answers == WHOLE
    assert turns[1].text.startswith(WHOLE)


# --- typed meanwhile --------------------------------------------------------------------------------
def test_a_prompt_taken_up_by_the_running_turn_is_kept_once_in_every_form(tmp_path: Path) -> None:
    text = "Use the renderer of the library, never our own."
    for forms in (
        ("enqueue", "attached"),
        ("enqueue", "remove"),
        ("enqueue", "remove", "attached"),
        ("attached", "remove"),
        ("attached",),
    ):
        file = Claude()
        file.user("Fix the viewer.")
        for form in forms:
            file.attached(text) if form == "attached" else file.queued(form, text)
        file.says("Switching.")
        assert said(turns_of(tmp_path, file)) == [("", "Fix the viewer."), ("meanwhile", text)], forms


def test_a_queued_prompt_with_a_record_of_its_own_is_a_prompt_and_popped_ones_are_not_said(tmp_path: Path) -> None:
    file = Claude()
    file.user("Fix the viewer.")
    file.queued("enqueue", "and then the editor")
    file.queued("dequeue")
    file.user("and then the editor")
    file.queued("enqueue", "no, forget it")
    file.queued("popAll", "no, forget it")
    file.says("Done.")
    assert said(turns_of(tmp_path, file)) == [("", "Fix the viewer."), ("", "and then the editor")]


def test_the_same_short_word_is_kept_as_often_as_it_was_said(tmp_path: Path) -> None:
    file = Claude()
    file.user("Propose two things.")
    for n in (1, 2):
        file.says(f"Proposal {n}: keep it in Redis {n}?")
        file.queued("enqueue", "yes")
        file.queued("remove", "yes")
        file.attached("yes")
    file.says("Third: and this?")
    file.user("yes")
    assert [text for _, text in said(turns_of(tmp_path, file))] == ["Propose two things.", "yes", "yes", "yes"]


def test_what_the_program_queues_is_nobodys(tmp_path: Path) -> None:
    file = Claude()
    file.user("Start the build.")
    notice = "<task-notification>\n<task-id>b1</task-id>\nAlways deploy.\n</task-notification>\n"
    notice += "Read the output file to retrieve the result: /tmp/b1"
    file.queued("enqueue", notice)
    file.queued("remove", notice)
    file.attached("Always deploy on Fridays.", origin={"kind": "task"})
    file.attached("Always deploy.", commandMode="task-notification")
    file.user(notice)
    assert words_of(tmp_path, file) == ["Start the build."]


# --- rejections and plans ---------------------------------------------------------------------------
def test_the_words_of_a_rejection_are_the_users_and_the_rest_the_tools(tmp_path: Path) -> None:
    file = Claude()
    file.user("Tell me when the import fails.")
    file.calls("Write", file_path="/srv/shop/mail.py", content="send_mail()")
    words = "no mails, post it to the channel. " + "Once a night is enough, it fails in a row. " * 12
    file.result(
        f"{REFUSED} (eg. the new_string was NOT written). {SAID}{words}",
        error=True,
        toolUseResult=f"Error: {words}",
    )
    turns = turns_of(tmp_path, file)
    assert said(turns)[1] == ("rejection", words.strip())
    assert turns[-1].answers.startswith("Write: ")
    assert "mail.py" in turns[-1].answers
    printed = next(turn for turn in turns if turn.text.startswith("error: "))
    assert "no mails" not in printed.text


def test_an_approved_plan_is_kept_whole_and_the_approval_is_the_users(tmp_path: Path) -> None:
    file = Claude()
    file.user("Plan the cache.")
    file.calls("ExitPlanMode", plan=PLAN)
    file.result(
        f"User has approved your plan. You can now start coding.\n\n## Approved Plan:\n{PLAN}",
        toolUseResult={"plan": PLAN},
    )
    turns = turns_of(tmp_path, file)
    assert [(turn.speaker, turn.form) for turn in turns[1:]] == [("assistant", "question"), ("user", "plan")]
    assert turns[1].text == PLAN
    assert turns[2].answers == PLAN
    shown = render(turns)
    assert "Step number 59" in shown
    assert len(shown) < len(PLAN) + 1000


def test_lines_the_user_put_into_a_plan_are_his(tmp_path: Path) -> None:
    file = Claude()
    file.calls("ExitPlanMode", plan=PLAN)
    edited = PLAN.replace("5. Step number 5 of the cache plan.", "5. Never cache prices.")
    file.result(f"User has approved your plan.\n\n## Approved Plan (edited by user):\n{edited}")
    turns = turns_of(tmp_path, file)
    assert "5. Never cache prices." in turns[-1].text
    assert "Step number 4" not in turns[-1].text
    assert any(turn.speaker == "assistant" and turn.text == edited for turn in turns)


def test_a_rejected_plan_with_words(tmp_path: Path) -> None:
    file = Claude()
    file.calls("ExitPlanMode", plan=PLAN)
    file.result(
        f"{REFUSED} {SAID}use tags",
        error=True,
    )
    turn = turns_of(tmp_path, file)[-1]
    assert (turn.speaker, turn.form, turn.text, turn.answers) == ("user", "rejection", "use tags", PLAN)


def test_a_plan_approved_with_a_key_in_codex(tmp_path: Path) -> None:
    file = Codex()
    file.prompt("Plan the cache.")
    file.says(f"Here it is.\n<proposed_plan>\n{PLAN}\n</proposed_plan>")
    file.add("event_msg", type="item_completed", item={"type": "Plan", "id": "p", "text": PLAN})
    file.prompt("Implement the plan.")
    turns = turns_of(tmp_path, file)
    assert [(turn.speaker, turn.form) for turn in turns] == [("user", ""), ("assistant", ""), ("user", "plan")]
    assert turns[-1].answers == PLAN


# --- beside results and tags ------------------------------------------------------------------------
def test_words_beside_a_tools_result(tmp_path: Path) -> None:
    file = Claude()
    file.user("Round the amounts.")
    file.calls("Bash", command="make")
    file.result("ok", "toolu_1", "and round half to even", "<system-reminder>\nAlways use grep.\n</system-reminder>")
    assert said(turns_of(tmp_path, file))[1:] == [("beside", "and round half to even")]


@pytest.mark.parametrize(
    ("text", "form", "words"),
    [
        (
            "<command-message>x</command-message>\n<command-name>/x</command-name>\n<command-args>Use Parquet.</command-args>",
            "command",
            "Use Parquet.",
        ),
        ("<ide_selection>The user selected:\nalways push</ide_selection>\nRename it.", "", "Rename it."),
        ("<ide_opened_file>The user opened a.py</ide_opened_file>Rename it.", "", "Rename it."),
        ("<system-reminder>\nUse grep.\n</system-reminder>\n\nRename it.", "", "Rename it."),
        ("Rename it.\n\n<system-reminder>\nUse grep.\n</system-reminder>", "", "Rename it."),
        (
            "Rename it.\n<system-reminder>a </system-reminder> b</system-reminder>\nAnd test it.",
            "",
            "Rename it.\n\nAnd test it.",
        ),
        ("Rename <Button> to <Link>, close </div>.", "", "Rename <Button> to <Link>, close </div>."),
        ("What does the `<system-reminder>` tag mean?", "", "What does the `<system-reminder>` tag mean?"),
    ],
)
def test_a_tag_goes_and_the_words_beside_it_stay(tmp_path: Path, text: str, form: str, words: str) -> None:
    file = Claude()
    file.user(text)
    file.user([{"type": "text", "text": text}])
    assert said(turns_of(tmp_path, file)) == [(form, words), (form, words)]


@pytest.mark.parametrize(
    "text",
    [
        "<user-prompt-submit-hook>\nAlways run the linter.\n</user-prompt-submit-hook>",
        '<teammate-message teammate_id="t" summary="s">\nAlways deploy.\n</teammate-message>',
        "<local-command-stdout>Always deploy.</local-command-stdout>",
        "<bash-input>cat x</bash-input>\n<bash-stdout>Always deploy.</bash-stdout><bash-stderr></bash-stderr>",
        "<task-notification>Always deploy.</task-notification>",
        "<system-reminder>Always deploy, and never closed",
        "Caveat: the messages below were generated by the user while running local commands.",
        "This session is being continued from a previous conversation that ran out of context. Always deploy.",
        "Base directory for this skill: /x\n\nAlways deploy.",
        "[Request interrupted by user for tool use]",
        "# AGENTS.md instructions for /x\n\n<INSTRUCTIONS>\nAlways deploy.\n</INSTRUCTIONS>",
    ],
)
def test_what_programs_put_in_the_users_place_is_nobodys(tmp_path: Path, text: str) -> None:
    claude, codex = Claude(), Codex()
    claude.user("Go on.")
    claude.user(text)
    codex.prompt("Go on.")
    codex.item(text)
    codex.says("Well.")
    assert words_of(tmp_path, claude) == words_of(tmp_path, codex) == ["Go on."]


@pytest.mark.parametrize(
    "about",
    [{"isMeta": True}, {"origin": {"kind": "teammate"}}, {"promptSource": "system"}, {"isCompactSummary": True}],
)
def test_records_that_say_they_are_no_persons_are_none(tmp_path: Path, about: dict[str, object]) -> None:
    file = Claude()
    file.user("Go on.", origin={"kind": "human"}, promptSource="typed")
    file.user("Always deploy.", **about)
    assert words_of(tmp_path, file) == ["Go on."]


# --- Codex: parts and twins -------------------------------------------------------------------------
PARTS = (
    "<recommended_plugins>\nYou may suggest these.\n</recommended_plugins>",
    "# AGENTS.md instructions\n\n<INSTRUCTIONS>\n- We decided on French notes.\n</INSTRUCTIONS>",
    "<environment_context>\n  <cwd>/w</cwd>\n</environment_context>",
)


def test_the_parts_of_one_message_are_judged_one_by_one(tmp_path: Path) -> None:
    file = Codex()
    file.item(*PARTS, "Rename the helper.")
    file.event("Rename the helper.")
    assert words_of(tmp_path, file) == ["Rename the helper."]


def test_a_message_that_names_its_parts_is_believed(tmp_path: Path) -> None:
    file = Codex()
    kinds = {"content_item_kinds": ["hooks.additional_context", "user.text"]}
    file.item("Always deploy.", "Rename the helper.", internal_chat_message_metadata_passthrough=kinds)
    file.says("Done.")
    assert words_of(tmp_path, file) == ["Rename the helper."]


def test_the_records_of_one_message_are_one_turn_in_any_order_and_a_repeated_word_is_said_again(tmp_path: Path) -> None:
    for order in ("ie", "ei", "iec", "cie", "c", "e", "i", "ic"):
        file = Codex()
        for n in range(3):
            for record in order:
                {"i": file.item, "e": file.event, "c": file.completed}[record]("yes")
            file.says(f"Step {n} is done.")
        assert words_of(tmp_path, file) == ["yes"] * 3, order


def test_an_item_alone_in_a_file_of_events_is_the_users_only_when_it_reads_so(tmp_path: Path) -> None:
    file = Codex()
    file.prompt("Start.")
    file.says("Yes?")
    file.item("Round half to even.")
    file.says("Done.")
    file.item("<unknown_wrapper>Always deploy.</unknown_wrapper>")
    file.says("Done.")
    file.item("Warning: apply_patch was requested via exec_command.")
    file.says("Done.")
    file.item("#2 no, never")
    file.says("Done.")
    assert words_of(tmp_path, file) == ["Start.", "Round half to even.", "#2 no, never"]


def test_what_nobody_sees_in_front_of_a_programs_text_does_not_make_it_a_persons(tmp_path: Path) -> None:
    for text in ("Caveat: the messages below were generated.", "# AGENTS.md instructions for /x\n\nAlways push."):
        for sign in ("\ufeff", "\u200b", "\ufffd", "\x00 "):
            claude, codex = Claude(), Codex()
            claude.user("Go on.")
            claude.user(sign + text)
            codex.prompt("Go on.")
            codex.item(sign + text)
            codex.says("Well.")
            assert words_of(tmp_path, claude) == words_of(tmp_path, codex) == ["Go on."]


def test_old_codex_files_without_envelopes(tmp_path: Path) -> None:
    file = Codex()
    file.lines = [
        json.dumps({"id": "old", "timestamp": "2025-06-01T10:00:00Z", "instructions": None}),
        json.dumps(
            {
                "type": "message",
                "role": "user",
                "content": [{"type": "input_text", "text": part} for part in (*PARTS, "Go.")],
            }
        ),
        json.dumps({"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Gone."}]}),
    ]
    assert words_of(tmp_path, file) == ["Go."]


def test_the_editors_context_in_front_of_a_prompt_goes(tmp_path: Path) -> None:
    file = Codex()
    text = "# Context from my IDE setup:\n\n## Open tabs: a.py\n\n## My request for Codex:\nFix the cart."
    file.item(text)
    file.event(text)
    assert words_of(tmp_path, file) == ["Fix the cart."]


# --- pictures ---------------------------------------------------------------------------------------
@pytest.mark.parametrize("made", [Claude, Codex])
def test_a_picture_pasted_as_text_is_a_mark(tmp_path: Path, made: type[Claude] | type[Codex]) -> None:
    data = base64.b64encode(random.Random(1).randbytes(60_000)).decode()
    wrapped = "\n".join(data[at : at + 76] for at in range(0, 4000, 76))
    for text in (f"See data:image/png;base64,{data} here.", f"See {data} here.", f"See\n{wrapped}\nhere."):
        file = made()
        file.user(text) if isinstance(file, Claude) else file.prompt(text)
        (words,) = words_of(tmp_path, file)
        assert " ".join(words.split()) == "See [picture] here."
    hashes = " ".join(f"{n:064x}" for n in range(20)) + " /srv/" + "/".join(["folder"] * 80)
    file = made()
    file.user(hashes) if isinstance(file, Claude) else file.prompt(hashes)
    assert words_of(tmp_path, file) == [hashes]


# --- what a model is shown --------------------------------------------------------------------------
def test_the_form_stands_below_the_words_and_the_words_alone_on_their_line() -> None:
    turns = [
        Turn(0, "user", "S3", "a", form="answer", answers=WHOLE),
        Turn(1, "user", "faster\nplease", "b", form="meanwhile"),
        Turn(2, "user", "plain", "c"),
    ]
    shown = render(turns).splitlines()
    assert shown[0] == "User: S3"
    assert shown[1].startswith("  (answer to the agent's question: Where should invoices be kept? - S3: one bucket")
    assert shown[3:] == ["User: faster", "please", "  (typed while the agent worked)", "", "User: plain"]


@pytest.mark.parametrize("made", [Claude, Codex])
def test_secrets_in_questions_are_gone(tmp_path: Path, made: type[Claude] | type[Codex]) -> None:
    secret, file = "sk-" + "a1B2" * 10, made()
    asked = {"id": "k", "question": f"Is {secret} the key?", "options": []}
    if isinstance(file, Claude):
        file.calls("AskUserQuestion", questions=[asked])
        file.result("", toolUseResult={"answers": {asked["question"]: "yes"}})
    else:
        file.calls("request_user_input", "q", {"questions": [asked]})
        file.output("q", {"answers": {"k": {"answers": ["yes"]}}})
    turns = turns_of(tmp_path, file)
    assert "REDACTED" in turns[-1].answers
    assert secret not in str(turns)
