"""What a chat request holds: messages, and the texts that go with them."""

from typing import NamedTuple

from zppo_jax.records import Clip, Picture

ROLES = ('system', 'user', 'assistant')
# Names under which messages bring the reasoning of an assistant's turn. A
# template reads one of the two names in READ, so it gets both.
REASONING = ('reasoning_content', 'reasoning', 'thinking')
READ = ('reasoning_content', 'thinking')


class Field(NamedTuple):
  """A text that a message holds besides its content.

  Attributes:
    name: 'reasoning' for an assistant's turn; otherwise the template's name for
      it, e.g. 'name'.
    text: the text.
  """
  name: str
  text: str


class Message(NamedTuple):
  """A message and who wrote it.

  Attributes:
    role: a role that the template knows, e.g. one of ROLES.
    parts: texts, pictures and clips in their order, and fields at any place
      among them.
  """
  role: str
  parts: tuple[str | Picture | Clip | Field, ...]

  @property
  def shown(self) -> tuple[str | Picture | Clip, ...]:
    """The parts that are content."""
    return tuple(p for p in self.parts if not isinstance(p, Field))

  @property
  def fields(self) -> tuple[Field, ...]:
    """The parts that are fields."""
    return tuple(p for p in self.parts if isinstance(p, Field))
