"""Config section `array`: defaults, mistakes in one line, and what it makes of data_dir and the specs."""

import json
import re
from typing import Any

import pytest

from tests.array.machines import A, B
from tests.array.machines import settings as array_settings
from tests.configs import changed, one_line
from workflow.hyperkv.array.settings import ArraySettings, mistakes
from workflow.hyperkv.base.errors import UserError
from workflow.hyperkv.config.config import checked
from workflow.hyperkv.config.plan import (
    baseline_spec,
    layers_spec,
    limits_spec,
    on_array,
    profile_spec,
    sweep_spec,
)

RAID0: dict[str, Any] = {"source": "raid0", "devices": [A, B]}


def array(**keys: Any) -> dict[str, Any]:
    return changed("array", RAID0 | keys)


def test_by_default_a_folder_is_taken_as_it_is():
    config = checked(changed("array", {}))
    assert config["array"]["source"] == "path"
    assert config["array"]["raid_chunk_bytes"] == 512 << 10
    assert config["data_dir"] == "results/data"
    assert on_array(config) == {}
    assert not config["array"]["consent"]
    assert not config["array"]["overwrite"]
    assert not config["array"]["persist"]


def test_on_an_array_the_data_goes_there_and_every_spec_names_it():
    config = checked(array(mount="/mnt/fast", consent=True))
    assert config["data_dir"] == "/mnt/fast/hyperkv"
    specs = [make(config, "files") for make in (sweep_spec, profile_spec, layers_spec)]
    specs += [limits_spec(config), baseline_spec(config)]
    for spec in map(json.loads, specs):
        assert spec["data_dir"] == "/mnt/fast/hyperkv"
        assert spec["array"] == {
            "name": "hyperkv",
            "devices": [A, B],
            "raid_chunk_bytes": 512 << 10,
            "file_system": "xfs",
            "mount": "/mnt/fast",
            "mount_options": ["noatime"],
        }


def test_consent_and_the_like_measure_nothing_again():
    plain = checked(array())
    leave = dict.fromkeys(
        ("consent", "overwrite", "persist", "allow_unequal", "allow_any_block_device"), True
    )
    assert sweep_spec(plain, "files") == sweep_spec(checked(array(owner="root", **leave)), "files")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("name", "other"),
        ("devices", [B, A]),
        ("raid_chunk_bytes", "64 KiB"),
        ("file_system", "ext4"),
        ("mount", "/x"),
    ],
)
def test_what_the_array_is_measures_again(key, value):
    assert sweep_spec(checked(array(**{key: value})), "files") != sweep_spec(checked(array()), "files")


def test_a_folder_of_the_array_may_be_chosen():
    assert (
        checked(array() | {"data_dir": "/mnt/hyperkv/hyperkv/mine"})["data_dir"]
        == "/mnt/hyperkv/hyperkv/mine"
    )


CONTROL = "it has a line break or another control character"
MISTAKES = [
    ({"source": "raid5"}, "source: 'raid5' is wrong; allowed are path, raid0"),
    ({"device": [A]}, "device is not a key; did you mean devices? allowed are source, name"),
    ({"devices": []}, "devices: none is named; RAID0 needs at least two"),
    ({"devices": [A]}, f"devices: {A} is named; RAID0 needs at least two"),
    ({"devices": [A, A]}, f"devices: {A} is named twice"),
    ({"devices": ["nvme0n1", A]}, "devices.0: 'nvme0n1' is wrong; it must be text like ^/dev/"),
    ({"devices": A}, "devices: '/dev/disk"),
    ({"devices": [A, f"{B}\n/dev/x"]}, f"devices.1: {CONTROL}"),
    ({"raid_chunk_bytes": 513 << 10}, "raid_chunk_bytes: 525312 is no power of two of at least 4096"),
    ({"raid_chunk_bytes": "2 KiB"}, "raid_chunk_bytes: 2048 is no power of two"),
    ({"raid_chunk_bytes": "512K"}, "raid_chunk_bytes: '512K' is wrong; it must be a size such as"),
    ({"consent": "yes"}, "consent: 'yes' is wrong; it must be true or false"),
    ({"mount": "mnt"}, "mount: 'mnt' is wrong; it must be text like ^/"),
    ({"mount": "/mnt/"}, "mount: /mnt/ is no absolute path without a slash at its end"),
    ({"mount": "/mnt//x"}, "mount: /mnt//x is no absolute path without a slash at its end, or has"),
    ({"mount": "/mnt/../x"}, "mount: /mnt/../x is no absolute path"),
    ({"mount": "//mnt"}, "mount: //mnt is no absolute path"),
    *(({"mount": f"/mnt/a{odd}"}, f"mount: {CONTROL}") for odd in ("\nb", "\tb", "\n", "\x7f")),
    ({"name": "hyperkv\n"}, f"name: {CONTROL}"),
    ({"name": "Hyper-KV"}, "name: 'Hyper-KV' is wrong; it must be text like"),
    ({"name": "longer_than_xfs_takes"}, "name: 'longer_than_xfs_takes' is wrong"),
    ({"mount_options": ["discard"]}, "mount_options is not a key any more; the array is mounted"),
    ({"baseline": {"repeats": 9}}, "baseline is not a key any more; it is a constant"),
]


@pytest.mark.parametrize(("keys", "message"), MISTAKES)
def test_mistakes(keys, message):
    assert f"config: array.{message}" in one_line(array(**keys))


@pytest.mark.parametrize("data_dir", ["/data", "/mnt/hyperkv", "/mnt/hyperkv/mine", "data"])
def test_a_data_dir_that_is_not_on_the_array(data_dir):
    message = f"data_dir: {data_dir} is not in /mnt/hyperkv/hyperkv on the array; leave it out, or set array.source: path"
    with pytest.raises(UserError, match=re.escape(message)):
        checked(array() | {"data_dir": data_dir})


def test_mistakes_of_an_array_that_is_not_used_stop_nothing():
    assert checked(changed("array", {"source": "path", "devices": [A]}))["array"]["devices"] == [A]


def test_settings_and_back():
    settings = ArraySettings.of(checked(array())["array"])
    assert ArraySettings.of(json.loads(settings.spec())) == settings


@pytest.mark.parametrize(
    "values",
    [
        *({"mount": mount} for mount in ("/x\ny", "/x\ty", "/x y", "/x\u2028y", "/")),
        {"name": "a\n"},
        {"mount_options": ("a\nb",)},
        {"devices": (A, f"{B}\n")},
    ],
)
def test_the_stages_own_door_is_as_strict(values):
    """A spec may be pasted, and is not seen by the schema then."""
    [line] = mistakes(array_settings(**values))
    assert line.startswith(f"array.{next(iter(values))}: ")
    assert line.isprintable()
