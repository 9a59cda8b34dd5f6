"""Tables of the terminal."""

from hash3d.cli.tables import print_table


def test_a_row_stays_a_line_in_a_narrow_terminal(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "20")
    print_table(("one", "two"), [("x" * 100, "y"), ("z", "w" * 60)])
    lines = capsys.readouterr().out.rstrip().splitlines()
    assert len(lines) == 3
    assert "x" * 100 in lines[1]
