r"""Ways of writing that people and models have, in both roles.

Each row is (kind, gold, the same, others). All were wrong once, or stand beside
one that was: what is accepted has a neighbour that is not.
"""

import pytest

from zppo_jax.verdicts import kinds
from zppo_jax.verdicts.kinds.plain import Unreadable

pytest.importorskip('math_verify')

ROWS = (
    # dress
    ('math', '5', ('5,', '= 5', r'\color{red}{5}', r'\textcolor{blue}{5}',
                   r'\underline{5}', r'5\hspace{1cm}', r'5\phantom{0}',
                   r'5\text{ (approx)}'),
     ('5,6', r'\color{red}{6}', r'\underline{51}', r'\bar{5}2')),
    ('math', r'5\text{ cm}', (r'5\, \rm cm', r'5 {\rm cm}', r'5\ \bf cm'),
     (r'5\, \rm m', r'5\ \bf kg')),
    ('math', r'9.8\text{ m/s}^2', (r'9.8\ \frac{m}{s^2}', '9.8 m/s²'),
     (r'9.8\ \frac{m}{s}', r'9.8\ \frac{s}{m^2}')),
    ('math', r'\mathbb{R}', ('ℝ', r'\text{all real numbers}', 'All reals'),
     (r'\emptyset', 'R+1')),
    ('math', r'\text{No solution}', ('no solution', 'No solution.'),
     ('no solutions here', '0')),
    # letters
    ('math', r'\phi+1', (r'1+\varphi', 'φ+1'), (r'\psi+1', r'\Phi+1')),
    ('math', r'\varepsilon_0', (r'\epsilon_0',), (r'\epsilon_1',)),
    ('math', r'\phi+\varphi', (r'\varphi+\phi',), (r'2\phi', r'2\varphi')),
    ('math', r'\hat{i}+2\hat{j}', (r'\mathbf{i}+2\mathbf{j}', r'\vec i+2\vec j',
                                   r'2\hat{\jmath}+\hat{\imath}'),
     (r'2\hat{i}+\hat{j}', r'\hat{i}-2\hat{j}')),
    # formulas
    ('math', r'\frac{a}{b}', (r'\frac{a}b', r'\frac ab'), (r'\frac{b}a',)),
    ('math', r'\ln 2', (r'\log_e 2', r'\log_{e}(2)'), (r'\log_{10} 2', '2')),
    ('math', r'\log_{10} 5', (r'\lg 5',), (r'\ln 5', r'\lg 6')),
    ('math', r'\frac12', (r'\sin(30^\circ)', r'\cos 60^{\circ}',
                          r'\sin^2 45^\circ'), (r'\sin 60^\circ',)),
    ('math', '|x|+1', ('abs(x)+1', 'Abs(x) + 1'), ('x+1', 'abs(x)-1')),
    ('math', 'x^2+y^2=25', ('25=x^2+y^2',), ('25=x^2-y^2', '24=x^2+y^2')),
    ('math', r'7\text{ R }2', ('7 R 2', '7 r 2', '7 remainder 2'),
     ('2 R 7', '7 R 3', '7')),
    ('math', '0.1\\overline{6}', ('1/6', r'\frac{1}{6}', '0.1(6)'),
     ('0.16', '0.1', r'0.\overline{16}')),
    ('number', '4/11', (r'0.\overline{36}', r'0.\dot{3}\dot{6}'),
     ('0.36', r'0.3\overline{6}')),
    # several values
    ('math', 'x=1,y=2', ('y=2, x=1', '(1,2)', r'x=1 \text{ and } y=2',
                         r'\begin{cases}x=1\\y=2\end{cases}'),
     ('(2,1)', 'x=2,y=1', r'\begin{cases}x=2\\y=1\end{cases}', 'x=1')),
    ('math', 'a=3,b=4,c=5', ('(3,4,5)', 'c=5,b=4,a=3'),
     ('(3,5,4)', 'a=3,b=5,c=4')),
    ('math', r'\langle 1,2,3\rangle', ('(1,2,3)', '<1,2,3>',
                                       r'\left\langle 1, 2, 3\right\rangle'),
     ('(3,2,1)', r'\langle 1,2\rangle')),
    ('math', r'\begin{pmatrix}1&2\\3&4\end{pmatrix}',
     ('[[1,2],[3,4]]', 'Matrix([[1, 2], [3, 4]])', 'np.array([[1,2],[3,4]])'),
     ('[[1,3],[2,4]]', '[[1,2],[3,5]]', '[[1,2]]')),
    ('math', 'ABD', ('A,B,D', 'A, B and D', 'BDA', '(A), (B), (D)', 'A B D'),
     ('ABC', 'AB', 'A,B', 'A, B, C, D')),
    ('set', '(1,2),(3,4)', ('(3,4),(1,2)', r'\{(3, 4), (1, 2)\}'),
     ('(4,2),(3,1)', '(2,1),(4,3)', '1,2,3,4', '(1,2)')),
    ('set', r'\emptyset', (r'\varnothing', '∅'), ('0',)),
    ('set', '1000,200', ('200, 1000', '{200; 1,000}'), ('1000200', '1000')),
    # plain kinds
    ('number', '5', ('x=5', r'x \approx 5', r'\theta = 5', '5,'),
     ('x=6', '5=x+1', 'x+5')),
    ('number', '1234567', ('1 234 567', r'1\,234\,567'), ('1 234 56', '1 234')),
    ('number', '0.5', (r'\frac12', r'\dfrac12', r'\frac{1}2'), (r'\frac13',)),
    ('number', '-3.5', (r'-3\frac12',), (r'3\frac12', r'-3\frac13')),
    ('choice', 'C', ('[C]', '[c].'), ('[D]',)),
    ('text', "Hubble's law", ('Hubble’s law', "hubble's law."),
     ('hubbles law',)),
    ('text', '.5', ('.5.', ' .5 '), ('5',)),
    ('text', "x'", ("X'",), ('x', "x''")),
    ('text', '*', (' * ',), ('+', '')),
    ('unit', '25 °C', ('25 degrees Celsius', r'25^\circ\text{C}'),
     ('25 degrees Fahrenheit',)),
)
PAIRS = [(kind, gold, answer, float(right))
         for kind, gold, same, others in ROWS
         for right, answers in ((True, same), (False, others))
         for answer in answers]


@pytest.mark.parametrize('kind,gold,answer,wanted', PAIRS)
def test_ways_of_writing(kind, gold, answer, wanted):
  """faults B1 to B8: siblings of what they name, and neighbours of those."""
  mark = kinds.get(kind).mark
  assert mark(answer, gold) == wanted
  try:
    assert mark(gold, answer) == wanted
  except Unreadable:  # no gold answer of its kind
    assert not wanted
