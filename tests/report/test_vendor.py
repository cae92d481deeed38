import hashlib
from importlib.resources import files

PLOTLY = "99784e3abfb07b142a15e521a439e6d9addceadb3f79553fd24c72774f0649ba"


def test_the_bundled_chart_library_is_the_published_one():
    bundle = files("atoll.report").joinpath("vendor/plotly-basic.min.js").read_bytes()
    assert hashlib.sha256(bundle).hexdigest() == PLOTLY
    assert b"plotly.js (basic - minified) v4.1.1" in bundle[:200]
