#!/usr/bin/env bash
# One would guess: a value passed to apply_chat_template by keyword reaches
#   the template as it is; the docstring says it "will be accessible by the
#   chat template". So a date can be formatted there, and a function called,
#   such as one that stands in for strftime_now to fix the day of a run.
# What happens: all but plain JSON-like values become the text of their type's
#   name. A date is written into the prompt as "<date>", a decimal number as
#   "<Decimal>", a set as "<set>", without a warning; calling a function
#   raises "'str' object is not callable". Jinja itself would print the date.
# Versions: transformers 5.24.0, tokenizers 0.23.3, Jinja2 3.1.6.
# Why it matters: the model is prompted with the word <date>, and templates
#   that print today's date cannot be given a fixed day through their
#   function.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet 'transformers==5.24.0' \
  'tokenizers==0.23.3' 'jinja2==3.1.6'
TRANSFORMERS_VERBOSITY=error "$work/venv/bin/python" - <<'PY'
import datetime
import decimal
import jinja2
import tokenizers
import transformers

print("transformers", transformers.__version__, "tokenizers",
      tokenizers.__version__, "jinja2", jinja2.__version__)
words = tokenizers.models.WordLevel({"a": 0, "?": 1}, unk_token="?")
tokenizer = transformers.PreTrainedTokenizerFast(
    tokenizer_object=tokenizers.Tokenizer(words), unk_token="?")
chat = [{"role": "user", "content": "a"}]


def render(template, **values):
  try:
    return tokenizer.apply_chat_template(
        chat, chat_template=template, tokenize=False, **values)
  except TypeError as error:
    return f"TypeError: {error}"


def fixed(form):
  return datetime.date(2024, 7, 26).strftime(form)


seen = {
    "text": render("{{ value }}", value="26 Jul 2024"),
    "date": render("{{ value }}", value=datetime.date(2024, 7, 26)),
    "decimal": render("{{ value }}", value=decimal.Decimal("0.7")),
    "set": render("{{ value }}", value={7}),
    "function": render("{{ strftime_now('%Y') }}", strftime_now=fixed),
}
for name, prompt in seen.items():
  print(f"{name}: {prompt}")
bare = jinja2.Template("{{ value }}").render(value=datetime.date(2024, 7, 26))
print("jinja2 itself, date:", bare)
expected = {
    "text": "26 Jul 2024",
    "date": "<date>",
    "decimal": "<Decimal>",
    "set": "<set>",
    "function": "TypeError: 'str' object is not callable",
}
assert seen == expected, seen
PY
