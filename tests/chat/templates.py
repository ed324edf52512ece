"""Chat templates in the manner of those that models come with."""

# Thinking is shown of turns behind the last question alone; a tool's answer is
# no question; `reasoning_content` counts before what stands in the content.
QWEN3 = """\
{%- set ns = namespace(last=messages|length - 1, open=true) %}
{%- for m in messages[::-1] %}
  {%- set at = messages|length - 1 - loop.index0 %}
  {%- if ns.open and m.role == 'user' and not (
      m.content.startswith('<tool_response>')
      and m.content.endswith('</tool_response>')) %}
    {%- set ns.open = false %}{%- set ns.last = at %}
  {%- endif %}
{%- endfor %}
{%- for m in messages %}
  {%- set content = m.content if m.content is string else '' %}
  {%- if m.role == 'assistant' %}
    {%- set thought = '' %}
    {%- if m.reasoning_content is string %}
      {%- set thought = m.reasoning_content %}
    {%- elif '</think>' in content %}
      {%- set thought = content.split('</think>')[0].rstrip('\\n').split(
          '<think>')[-1].lstrip('\\n') %}
      {%- set content = content.split('</think>')[-1].lstrip('\\n') %}
    {%- endif %}
    {{- '<|im_start|>' + m.role + '\\n' }}
    {%- if loop.index0 > ns.last and (loop.last or thought) %}
      {{- '<think>\\n' + thought.strip('\\n') + '\\n</think>\\n\\n' }}
    {%- endif %}
    {{- content.lstrip('\\n') + '<|im_end|>\\n' }}
  {%- elif m.role == 'tool' %}
    {{- '<|im_start|>user\\n<tool_response>\\n' + content
        + '\\n</tool_response><|im_end|>\\n' }}
  {%- else %}
    {{- '<|im_start|>' + m.role + '\\n' + content + '<|im_end|>' + '\\n' }}
  {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
  {{- '<|im_start|>assistant\\n' }}
  {%- if enable_thinking is defined and enable_thinking is false %}
    {{- '<think>\\n\\n</think>\\n\\n' }}
  {%- endif %}
{%- endif %}
"""

# Contents go through a macro and are trimmed; the reply begins with thinking.
QWEN3_5 = """\
{%- macro shown(content) %}
  {%- if content is string %}{{- content }}
  {%- else %}{%- for part in content %}
    {%- if part.type == 'image' %}
      {{- '<|vision_start|><|image_pad|><|vision_end|>' }}
    {%- elif part.type == 'video' %}
      {{- '<|vision_start|><|video_pad|><|vision_end|>' }}
    {%- elif 'text' in part %}{{- part.text }}
    {%- else %}{{- raise_exception('Unexpected part of a message.') }}
    {%- endif %}
  {%- endfor %}{%- endif %}
{%- endmacro %}
{%- if not messages %}{{- raise_exception('No messages.') }}{%- endif %}
{%- set ns = namespace(query=-1) %}
{%- for m in messages %}
  {%- if m.role == 'user' %}{%- set ns.query = loop.index0 %}{%- endif %}
{%- endfor %}
{%- if ns.query < 0 %}{{- raise_exception('No user query.') }}{%- endif %}
{%- for m in messages %}
  {%- set content = shown(m.content) | trim %}
  {%- if m.role == 'system' and not loop.first %}
    {{- raise_exception('System message must be at the beginning.') }}
  {%- elif m.role == 'assistant' %}
    {%- set thought = '' %}
    {%- if m.reasoning_content is string %}
      {%- set thought = m.reasoning_content %}
    {%- elif '</think>' in content %}
      {%- set thought = content.split('</think>')[0].split('<think>')[-1] %}
      {%- set content = content.split('</think>')[-1].lstrip('\\n') %}
    {%- endif %}
    {%- set thought = thought | trim %}
    {{- '<|im_start|>' + m.role + '\\n' }}
    {%- if loop.index0 > ns.query %}
      {{- '<think>\\n' + thought + '\\n</think>\\n\\n' }}
    {%- endif %}
    {{- content + '<|im_end|>\\n' }}
  {%- else %}
    {{- '<|im_start|>' + m.role + '\\n' + content + '<|im_end|>' + '\\n' }}
  {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
  {{- '<|im_start|>assistant\\n' }}
  {%- if enable_thinking is defined and enable_thinking is false %}
    {{- '<think>\\n\\n</think>\\n\\n' }}
  {%- else %}{{- '<think>\\n' }}{%- endif %}
{%- endif %}
"""

# All system messages come first; what stands before the last </think> of an
# earlier turn is cut; a turn has its tokens only while one is open.
DEEPSEEK = """\
{% if not add_generation_prompt is defined -%}
  {% set add_generation_prompt = false %}
{%- endif %}
{%- set ns = namespace(system='', first=true) %}
{%- for m in messages %}{%- if m['role'] == 'system' %}
  {%- if ns.first %}{%- set ns.system = ns.system + m['content'] %}
    {%- set ns.first = false %}
  {%- else %}{%- set ns.system = ns.system + '\\n\\n' + m['content'] %}
  {%- endif %}
{%- endif %}{%- endfor -%}
{{ bos_token }}{{ ns.system }}
{%- for m in messages %}
  {%- if m['role'] == 'user' -%}
    {{ '<|user|>' + m['content'] }}
  {%- elif m['role'] == 'assistant' %}
    {%- set content = m['content'] %}
    {%- if '</think>' in content %}
      {%- set content = content.split('</think>')[-1] %}
    {%- endif -%}
    {{ '<|assistant|>' + content + eos_token }}
  {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<|assistant|><think>\\n' }}{% endif %}
"""

# Everything is trimmed; the header of a turn is put together and stored.
LLAMA3 = """\
{%- if tools is not none or documents is not none %}
  {{- raise_exception('tools are not for this model') }}
{%- endif %}
{{- bos_token }}
{%- if messages[0]['role'] == 'system' %}
  {%- set system = messages[0]['content'] | trim %}
  {%- set messages = messages[1:] %}
{%- else %}{%- set system = '' %}{%- endif %}
{{- '<|header|>system<|body|>\\n\\nCutting Knowledge Date: December 2023\\n' }}
{{- system }}
{{- '<|eot|>' }}
{%- for m in messages %}
  {%- set head = '<|header|>' + m['role'] + '<|body|>\\n\\n' %}
  {{- head + m['content'] | trim + '<|eot|>' }}
{%- endfor %}
{%- if add_generation_prompt %}
  {{- '<|header|>assistant<|body|>\\n\\n' }}
{%- endif %}
"""

# The system message stands before the last question; an answer's end is
# stripped; roles must take turns.
MISTRAL = """\
{%- if messages[0].role == 'system' %}
  {%- set system = messages[0].content %}{%- set talk = messages[1:] %}
{%- else %}{%- set talk = messages %}{%- endif %}
{{- bos_token }}
{%- for m in talk %}
  {%- if (m.role == 'user') != (loop.index0 % 2 == 0) %}
    {{- raise_exception('user and assistant must take turns') }}
  {%- endif %}
  {%- if m.role == 'user' %}
    {%- if loop.last and system is defined %}
      {{- '[INST] ' + system + '\\n\\n' + m.content + ' [/INST]' }}
    {%- else %}{{- '[INST] ' + m.content + ' [/INST]' }}{%- endif %}
  {%- else %}{{- ' ' + m.content.rstrip() + eos_token }}{%- endif %}
{%- endfor %}
"""

# Another name for the assistant, stored and then shown.
GEMMA = """\
{{ bos_token }}
{%- if messages[0].role == 'system' -%}
  {%- set first = messages[0].content + '\\n\\n' -%}
  {%- set talk = messages[1:] -%}
{%- else -%}{%- set first = '' -%}{%- set talk = messages -%}{%- endif -%}
{%- for m in talk -%}
  {%- if m.role == 'assistant' -%}{%- set who = 'model' -%}
  {%- else -%}{%- set who = m.role -%}{%- endif -%}
  {{ '<|turn|>' + who + '\\n' + (first if loop.first else '')
     + m.content | trim + '<|eot|>\\n' }}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ '<|turn|>model\\n' }}{%- endif -%}
"""

# A control token put together from a role, as in small models of one house.
PHI = """\
{% for m in messages %}{% if m['content'] %}{{ '<|' + m['role'] + '|>'
   + m['content'].strip() + '<|eot|>' }}{% endif %}{% endfor %}
{%- if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}
"""

# Contents are measured, compared, counted and put into upper case.
MEASURING = """\
{%- for m in messages %}
  {{- '<|im_start|>' + m.role }}
  {%- if m.content | length > 20 %}{{- ' long' }}{%- endif %}
  {%- if 'secret' in m.content | lower %}{{- ' (secret)' }}{%- endif %}
  {%- if m.content == 'ping' %}{{- '\\npong' }}
  {%- else %}{{- '\\n' + m.content[:24] | replace('-', '_') }}{%- endif %}
  {%- if m.content.split() | length > 2 %}
    {{- '\\n' + m.content.upper().split() | join('<|turn|>') }}
  {%- endif %}
  {{- '<|im_end|>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}
"""

ALL = {name: text for name, text in globals().items()
       if name.isupper() and isinstance(text, str)}
