"""A file that is made appears when it is whole, and not at all when making it fails."""

import pytest

from workflow.hyperkv.base.durable import appearing


def test_a_file_appears_when_it_is_whole(tmp_path):
    path = tmp_path / "new" / "file"
    with appearing(path) as partial:
        partial.write_text("half")
        assert not path.exists()
    assert path.read_text() == "half"
    assert list(path.parent.iterdir()) == [path]


def test_what_fails_leaves_the_earlier_file_alone(tmp_path):
    path = tmp_path / "file"
    path.write_text("earlier")
    with pytest.raises(ValueError, match="broken"), appearing(path) as partial:
        partial.write_text("half")
        raise ValueError("broken")
    assert path.read_text() == "earlier"
    assert list(tmp_path.iterdir()) == [path]
