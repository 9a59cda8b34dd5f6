"""The file of rows, which a kill may cut off."""

import json

from hash3d.table.runner import Rows


def test_a_line_that_was_cut_off_does_not_count_and_is_not_lengthened(tmp_path):
    rows = Rows(tmp_path)
    assert rows.read() == []
    rows.append({"object": "cup", "seed": 0})
    with rows.path.open("a") as file:
        file.write(json.dumps({"object": "mug", "cache": {"hits": 1}, "seed": 0})[:-10])
    rows.append({"object": "hat", "seed": 1})
    assert [row["object"] for row in rows.read()] == ["cup", "hat"]
