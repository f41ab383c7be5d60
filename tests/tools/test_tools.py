import numpy as np

from cnnpy import functional as F
from cnnpy import nn, tools
from cnnpy.models import lenet5


def test_summary_counts():
    s = tools.summary(lenet5(rng=0), (1, 28, 28))
    assert s.parameters == 61_706 and s.macs == 416_520 and len(s.rows) == 12
    assert s.rows[0] == ("0", "Conv2d", (6, 28, 28), 156, 117_600)
    assert "416,520" in str(s) and "<table>" in s._repr_html_()
    model = nn.Sequential(nn.Conv2d(4, 8, 3, groups=2, bias=False))
    assert tools.summary(model, (4, 10, 10)).macs == 8 * 2 * 9 * 64 and model.training


def test_gradcheck_finds_what_is_wrong():
    x = np.array([0.5, -0.25, 2.0])
    assert tools.gradcheck(F.sigmoid, x) < 1e-9
    assert tools.gradcheck(lambda a, b: F.matmul(a, b), np.ones((2, 3)), np.ones((3, 2))) < 1e-8
    assert tools.gradcheck(lambda t: F.relu(t.detach() * 2) + t * 0, x) > 0.1
