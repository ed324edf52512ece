r"""One spelling of texts that look the same: characters, spaces, LaTeX macros.

`undress` keeps the groups of words (`\text{ cm}`), because units stand in them;
`tidy` opens them. The time of both is linear in their input.
"""

import re
import unicodedata

# Macros that hold words rather than formulas.
WORD_MACRO = (
    r'\\(?:text(?:rm|bf|it|sf|tt|normal|up)?|math(?:rm|bf|it|sf|tt|normal)|'
    r'operatorname\*?|mbox|hbox|boldsymbol|bm)(?![A-Za-z])')
_WORDS = re.compile(WORD_MACRO + r'\s*\{([^{}]*)\}')
_ROMAN = re.compile(r'\{\s*\\(?:rm|bf|it|sf|tt)(?![A-Za-z])\s*([^{}]*)\}')
_THOUSANDS = re.compile(
    r'(?<=[0-9])(?:\\[,;:! ]|\{,\}|~)(?=[0-9]{3}(?![0-9]))')
# A double backslash ends a row of a matrix and comes first, so that its second
# half is not taken for the backslash of a space.
_DRESS = re.compile(
    r'(\\\\)(?:\s*\[\s*-?[0-9.]{1,9}\s*[a-z]{2}\s*\])?|\\[,;:!> ()\[\]]|~|'
    r'\\(?:left|right)(?![A-Za-z])\s*\.|'
    r'\\(?:left|right|[bB]igg?[lrm]?|displaystyle|textstyle|quad|qquad|'
    r'thinspace|enspace|limits|hline)(?![A-Za-z])')
_SPACERS = re.compile(
    r'\\(?:h|v)(?:space|phantom)\*?\s*\{[^{}]*\}|\\phantom\s*\{[^{}]*\}')
# Macros that change colour, line or size alone; `\bar` and `\hat` do more.
_SHOWN = re.compile(
    r'\\(?:(?:text)?color\s*\{[^{}]*\}|underline|uline|mathstrut|ensuremath)'
    r'\s*\{([^{}]*+(?:\{[^{}]*+\}[^{}]*+)*+)\}')
_SWITCH = re.compile(  # `\rm cm`
    r'\\(?:rm|bf|it|sf|tt)(?![A-Za-z])\s*([^\W\d_]+(?:/[^\W\d_]+)?)')
_SIUNITX = re.compile(
    r'\\(?:SI|qty)\s*\{([^{}]*)\}\s*\{([^{}]*)\}|\\(?:si|unit)\s*\{([^{}]*)\}|'
    r'\\num\s*\{([^{}]*)\}')
_MARKDOWN = re.compile(r'\s*(\*\*\*|\*\*|\*|__|`+)([^*`]+)\1[\s.]*')
_DOLLARS = re.compile(r'(\\\$)|\$')
_PRICE = re.compile(r'\s*[-+]?\s*\$\s*[0-9.]')

# Characters that NFKC would turn into other numbers (`10²` into 102).
_RAISED = str.maketrans('⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁽⁾ⁿⁱ', '0123456789+-()ni')
_LOWERED = str.maketrans('₀₁₂₃₄₅₆₇₈₉₊₋₍₎', '0123456789+-()')
_RAISED_RUN = re.compile('[⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁽⁾ⁿⁱ]+')
_LOWERED_RUN = re.compile('[₀₁₂₃₄₅₆₇₈₉₊₋₍₎]+')
_VULGAR = re.compile('[¼½¾⅐-⅞↉]')
_ROOT = re.compile(r'√\s*(?:\(([^()]*)\)|([0-9]+(?:\.[0-9]+)?|[A-Za-z]))')
_SIGNS = {
    '−': '-', '–': '-', '‐': '-', '‑': '-', '÷': '/', '×': r'\times ',
    '·': r'\cdot ',
    '⋅': r'\cdot ', '∙': r'\cdot ', '∕': '/', '≤': r'\le ', '≥': r'\ge ',
    '≦': r'\le ', '≧': r'\ge ', '≠': r'\ne ', '∞': r'\infty ', '∪': r'\cup ',
    '∩': r'\cap ', '∈': r'\in ', '∅': r'\emptyset ', '±': r'\pm ',
    '°': r'^\circ ', 'º': r'^\circ ', '∘': r'^\circ ',
    '′': "'", '’': "'", '“': '"', '”': '"',
}
GREEK = {
    'α': 'alpha', 'β': 'beta', 'γ': 'gamma', 'δ': 'delta', 'ε': 'epsilon',
    'ζ': 'zeta', 'η': 'eta', 'θ': 'theta', 'ι': 'iota', 'κ': 'kappa',
    'λ': 'lambda', 'μ': 'mu', 'ν': 'nu', 'ξ': 'xi', 'π': 'pi', 'ρ': 'rho',
    'σ': 'sigma', 'τ': 'tau', 'υ': 'upsilon', 'φ': 'phi', 'χ': 'chi',
    'ψ': 'psi', 'ω': 'omega', 'Γ': 'Gamma', 'Δ': 'Delta', 'Θ': 'Theta',
    'Λ': 'Lambda', 'Ξ': 'Xi', 'Π': 'Pi', 'Σ': 'Sigma', 'Φ': 'Phi',
    'Ψ': 'Psi', 'Ω': 'Omega', 'ϕ': 'phi', 'ϵ': 'epsilon', 'ϑ': 'theta',
}
_BLACKBOARD = str.maketrans(
    {letter: rf'\mathbb{{{name}}}' for letter, name in zip(
        'ℝℕℤℚℂ', 'RNZQC', strict=True)})
_UNICODE = str.maketrans(
    _SIGNS | {letter: f'\\{name} ' for letter, name in GREEK.items()})


def _vulgar(match: re.Match) -> str:
  over, _, under = unicodedata.normalize('NFKC', match[0]).partition('⁄')
  return rf'\frac{{{over}}}{{{under}}}'


def characters(text: str) -> str:
  """A text in NFKC which spells out powers, indices and fractions."""
  text = _RAISED_RUN.sub(lambda m: f'^{{{m[0].translate(_RAISED)}}}', text)
  text = _LOWERED_RUN.sub(lambda m: f'_{{{m[0].translate(_LOWERED)}}}', text)
  text = _VULGAR.sub(_vulgar, text)
  return unicodedata.normalize('NFKC', text).replace('−', '-')


def formula_characters(text: str) -> str:
  """`characters` with the signs and letters of formulas as macros."""
  text = text.translate(_BLACKBOARD).replace('º', '°')  # for NFKC letters
  return _ROOT.sub(lambda m: rf'\sqrt{{{m[1] or m[2]}}}',
                   characters(text)).translate(_UNICODE)


def _spaced(text: str) -> str:
  return re.sub(r'\s+', ' ', text).strip()


def _of_siunitx(match: re.Match) -> str:
  value, unit = match[1] or match[4] or '', match[2] or match[3]
  return rf'{value}\text{{ {unit}}}' if unit else value


def _undressed(text: str) -> str:
  text = _SHOWN.sub(r'\1', _SPACERS.sub(' ', _THOUSANDS.sub('', text)))
  text = _SWITCH.sub(r'\\text{\1}', _ROMAN.sub(r'\\text{\1}', text))
  text = _SIUNITX.sub(_of_siunitx, text)
  return _DRESS.sub(lambda m: m[1] or ' ', text)


def without_markdown(text: str) -> str:
  """A text without the stars or back ticks around all of it."""
  match = _MARKDOWN.fullmatch(text)
  return match[2] if match else text


def undress(text: str) -> str:
  r"""A formula without spacing macros, sizes and dollar signs.

  Groups of words stay, and so does `\$`, which is money. The full stop of a
  sentence goes.
  """
  text = formula_characters(text)
  if text.count('$') == 1 and _PRICE.match(text):  # no formula's delimiter
    text = text.replace('$', r'\$')
  text = _DOLLARS.sub(lambda m: m[1] or ' ', text)
  text = all_words(without_markdown(_spaced(_undressed(text))))
  text = text.rstrip('. ') if not text.endswith('..') else text
  return text.rstrip(',; ') if text[-1:] in ('', *',;') else text


def all_words(text: str) -> str:
  r"""`5 cm` of `\text{5 cm}`; another text stays."""
  match = _WORDS.fullmatch(text)
  return match[1].strip() if match else text


def open_words(text: str) -> str:
  r"""`\text{east}` as `east`."""
  return _spaced(_WORDS.sub(r' \1 ', text).replace('\\$', ' '))


def tidy(text: str) -> str:
  """One spelling of texts that look the same."""
  text = _undressed(_WORDS.sub(r' \1 ', characters(text)))
  return _spaced(text.replace('\\$', ' ').replace('$', ' '))
