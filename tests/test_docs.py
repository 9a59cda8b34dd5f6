"""What the pages name exists: links, files, commands with their options, and Python names."""

import ast
import re
import textwrap
from functools import cache
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
READMES = ("README.md", "CONTRIBUTING.md", "research/README.md", "prior_training/README.md")
PAGES = [*(ROOT / name for name in READMES), *sorted((ROOT / "docs").rglob("*.md"))]
HISTORICAL = "the code is not in the tree any more"
"""A page that says this below its title may name commands and files of an earlier commit."""
RECORDS = {"docs/benchmarks/test_gpu.md"}
"""What a script wrote at an earlier commit: it names the tests of that commit."""
MADE_BY_THE_READER = {"src/hash3d/systems/figurine.py"}
ROOMS = "src|tests|docs|research|prior_training|scripts|examples"


def name_of(page):
    return str(page.relative_to(ROOT))


def current(page):
    """Whether what the page names should exist today."""
    return HISTORICAL not in page.read_text()[:1500] and name_of(page) not in RECORDS


CURRENT = [page for page in PAGES if current(page)]
SCRIPTS = [
    file for room in ("examples", "scripts", "research", "prior_training") for file in (ROOT / room).rglob("*.py")
]


def text_of(page):
    """A page's text, or a script's docstring with its usage."""
    text = page.read_text()
    return ast.get_docstring(ast.parse(text)) or "" if page.suffix == ".py" else text


@cache
def anchors(page):
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", [*PAGES, ROOT / "CHANGELOG.md"], ids=name_of)
def test_every_relative_link_leads_to_a_file_and_a_heading(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if target.startswith(("http://", "https://")):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), f"{name_of(page)} links to {target}, which does not exist."
        assert not anchor or anchor in anchors(file), f"{name_of(page)} links to {target}, which has no such heading."


@pytest.mark.parametrize("page", CURRENT, ids=name_of)
def test_every_path_exists(page):
    for path in re.findall(rf"(?<![\w./-])((?:{ROOMS})/[\w./-]*\w/?)", page.read_text()):
        if path not in MADE_BY_THE_READER:
            assert (ROOT / path).exists(), f"{name_of(page)} names {path}, which does not exist."


def commands(text):
    """The shell commands in a page's code: fenced and indented lines with continued ones joined, and inline code."""
    outside, units = [], []
    for number, part in enumerate(re.split(r"^```(?:\w*)\n", re.sub(r"\\\n\s*", " ", text), flags=re.M)):
        (units if number % 2 else outside).append(part)
    lines = [line for unit in units for line in unit.splitlines()]
    for part in outside:
        lines += [*re.findall(r"^ {4}(\S.*)$", part, re.M), *re.findall(r"`([^`]+)`", part)]
    joined = (" ".join(line.split("#")[0].split()) for line in lines)
    return [line for line in joined if re.match(r"(?:[A-Z_]+=\S+ )*(?:\S*/)?(?:python3?|torchrun|hash3d) [^=]*$", line)]


def module_of(command):
    """The dotted module or the script that a Python command runs, or None."""
    match = re.search(r"-m ([\w.]+)", command) or re.search(r"python3? ([\w/]+\.py)", command)
    return match.group(1) if match else None


def source_of(module):
    """The file that `python SCRIPT.py` or `python -m module` runs, or None if there is none."""
    if module.endswith(".py"):
        return ROOT / module if (ROOT / module).is_file() else None
    base = ROOT / ("src" if module.startswith("hash3d") else ".") / module.replace(".", "/")
    return next((file for file in (base.with_suffix(".py"), base / "__main__.py") if file.is_file()), None)


OURS = ("hash3d", "research", "prior_training")


@pytest.mark.parametrize("page", [*CURRENT, *SCRIPTS], ids=name_of)
def test_every_python_command_has_its_module_and_options(page):
    for command in commands(text_of(page)):
        module = module_of(command)
        if module is None or "NAME" in module:
            continue
        file = source_of(module)
        assert file, f"{name_of(page)} runs `{command}`, but there is no {module}."
        text = options_text(file)
        for option in re.findall(r"(?<=\s)--([\w-]+)", command.split(module)[-1]):
            known = f'"--{option}"' in text or re.search(rf"\b{option.replace('-', '_')}\b\s*[:=]", text)
            assert known, f"{name_of(page)} runs `{command}`, but {module} has no --{option}."


@cache
def options_text(file):
    """The source of a script, and of the modules beside it that it may take its options from."""
    beside = file.parent.glob("*.py") if file.parts[-2] != "examples" else [file]
    return "\n".join(each.read_text() for each in beside)


@pytest.mark.parametrize("page", CURRENT, ids=name_of)
def test_every_make_target_exists(page):
    targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.M)
    for target in re.findall(r"(?:`|^)make ([a-z]+)", page.read_text(), re.M):
        assert target in targets, f"{name_of(page)} says make {target}, which the Makefile does not have."


def imports(text):
    """Pairs (module, name) that the Python blocks of a page import from us."""
    for block in re.findall(r"^```python\n(.*?)^```$", text, re.S | re.M):
        for node in ast.walk(ast.parse(textwrap.dedent(block))):
            if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] in OURS:
                yield from ((node.module, alias.name) for alias in node.names)


@pytest.mark.parametrize("page", CURRENT, ids=name_of)
def test_every_python_name_can_be_imported(page):
    text = page.read_text()
    names = [f"{module}.{name}" for module, name in imports(text)]
    for dotted in {*names, *re.findall(r"`((?:hash3d|research|prior_training)(?:\.\w+)+)`", text)}:
        assert resolves(dotted), f"{name_of(page)} names {dotted}, which does not exist."


def test_the_changelog_s_new_import_paths_exist():
    rows = re.findall(r"^  \| `.*?` \| (.*) \|$", (ROOT / "CHANGELOG.md").read_text(), re.M)
    assert len(rows) > 10
    for name in re.findall(r"`((?:hash3d|research|prior_training)[^`]*)`", " ".join(rows)):
        package, _, modules = name.partition(".{")
        for module in modules.strip("}").split(", "):
            assert resolves(f"{package}.{module}" if module else package), f"CHANGELOG.md says {name} is a place now."


def resolves(dotted):
    """Whether a dotted name is a module, or a name in one."""
    if is_module(dotted):
        return True
    head, _, tail = dotted.rpartition(".")
    return is_module(head) and hasattr(import_module(head), tail)


def is_module(dotted):
    base = ROOT / ("src" if dotted.startswith("hash3d") else ".") / dotted.replace(".", "/")
    return bool(dotted) and (base.with_suffix(".py").is_file() or base.is_dir())


def test_a_wrong_command_would_be_found():
    assert commands("run `python -m research.gone --x 1` now") == ["python -m research.gone --x 1"]
    assert commands("```\nhash3d bench zero123_gs \\\n  --steps 3  # three\n```") == [
        "hash3d bench zero123_gs --steps 3"
    ]
    assert source_of("research.gone") is None
    assert source_of("research.experiments") == ROOT / "research" / "experiments" / "__main__.py"
    assert not resolves("hash3d.cache.gone")
    assert resolves("hash3d.cache.config.Hash3DConfig")


def test_historical_pages_name_the_commit_that_made_them():
    for page in PAGES:
        text = page.read_text()
        if HISTORICAL in text:
            assert re.search(r"commit [0-9a-f]{7}", text[:1500]), f"Expected a commit below the title of {page.name}."
