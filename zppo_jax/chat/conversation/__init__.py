"""The messages of a chat request as token ids, none of them forged.

  messages   what a request holds
  templates  the text that a chat template makes of it
  tokens     the ids of that text
  media      its pictures and clips
  asked      the prompt, up to where the assistant speaks
  taught     a whole conversation, with the assistant's words marked

A control token counts only where all of it is the template's own. Whatever
looks like one in a message stays letters.
"""

from zppo_jax.chat.conversation.asked import encode
from zppo_jax.chat.conversation.messages import REASONING, ROLES, Field, Message
from zppo_jax.chat.conversation.taught import Taught, answer, behind, teach

__all__ = ['REASONING', 'ROLES', 'Field', 'Message', 'Taught', 'answer',
           'behind', 'encode', 'teach']
