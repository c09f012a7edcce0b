"""The page is complete and self-contained, and describes its images."""

import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from benchmarks.report import write_simulated_run
from edgefilter.cli.report import write_report_beside
from edgefilter.core.errors import StoreError
from edgefilter.report import page as page_module
from edgefilter.report.page import render, write_report
from edgefilter.store.reader import open_store


class ParsedPage(HTMLParser):
    """The names and attributes of the elements of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def all(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.elements if name == tag]


def test_the_page_makes_no_outside_requests(page):
    text = page.read_text()
    found = ParsedPage(text)
    assert "default-src 'none'" in text
    assert [link["href"] for link in found.all("link")] == ["data:,"]  # otherwise browsers request a favicon
    assert all(image["src"].startswith("data:image/png;base64,") for image in found.all("img"))
    assert not any("src" in script for script in found.all("script"))
    assert not re.search(r"https?://|@import|url\(", text)


def test_every_image_has_a_description(page):
    found = ParsedPage(page.read_text())
    pictures = found.all("img")
    assert len(pictures) > 10
    assert all(len(picture["alt"]) > 15 for picture in pictures)
    labelled = [element for _, element in found.elements if element.get("role") in ("img", "group")]
    assert all(element["aria-label"] for element in labelled)


@pytest.mark.parametrize("rows", [500, 1])
def test_links_have_targets_and_ids_are_unique(page, reader, monkeypatch, rows):
    monkeypatch.setattr(page_module, "ROWS_SHOWN", rows)
    found = ParsedPage(page.read_text() if rows == 500 else render(reader))
    names = [attributes["id"] for _, attributes in found.elements if "id" in attributes]
    assert len(names) == len(set(names))
    links = [attributes["href"] for attributes in found.all("a") if "href" in attributes]
    assert links
    assert all(link.startswith("#") and link[1:] in names for link in links)
    labels = [a["aria-labelledby"] for _, a in found.elements if "aria-labelledby" in a]
    assert set(labels) <= set(names)


def test_the_numbers_are_those_of_the_store(page, reader):
    text = page.read_text().replace("\u202f", "")
    account = reader.account().to_pylist()[0]
    for name in ("samples_expected", "samples_received", "cells", "cells_lost", "cells_discarded", "cells_kept"):
        assert f">{account[name]}<" in text
    assert "balances to the sample" in text
    assert "does not balance" not in text
    assert f"cpu: {account['blocks']} blocks" in text
    for pulse in reader.table("pulses").to_pylist():
        assert f"S/N {pulse['snr']:.1f}, DM {pulse['dm']:.1f}" in text


def test_text_of_a_header_cannot_become_markup(simulated_run, store, monkeypatch):
    hostile = replace(simulated_run.plan.stream, source="<script>alert(1)</script>")
    reader = open_store(store)
    monkeypatch.setattr(reader, "streams", lambda: {simulated_run.plan.stream.id: hostile})
    text = render(reader)
    assert "&lt;script&gt;alert(1)" in text
    assert "<script>alert" not in text


def test_a_page_without_diagnostics_and_spectra_is_complete(simulated_run, tmp_path):
    write_simulated_run(tmp_path, replace(simulated_run, blocks=3, cutouts=0))
    for folder in ("spectra", "flags", "streams", "configs", "pulses"):
        for path in tmp_path.glob(f"{folder}/**/*.*"):
            path.unlink()
    text = render(open_store(tmp_path))
    assert "no spectra of this run" in text
    assert "No pulse was above the threshold" in text


def test_a_report_that_cannot_be_written_leaves_nothing(reader, tmp_path):
    with pytest.raises(StoreError, match=r"report\.html: cannot be written"):
        write_report(reader, tmp_path / "no" / "report.html")
    (tmp_path / "taken").mkdir()
    with pytest.raises(StoreError, match="cannot be written"):
        write_report(reader, tmp_path / "taken")
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]


def test_a_damaged_file_is_named_and_no_report_is_left(simulated_run, tmp_path):
    write_simulated_run(tmp_path / "store", replace(simulated_run, blocks=2))
    victim = next((tmp_path / "store").glob("ledger/*/*/*"))
    victim.write_bytes(victim.read_bytes()[:-9])
    with pytest.raises(StoreError, match=victim.name):
        write_report(open_store(tmp_path / "store"), tmp_path / "report.html")
    assert not (tmp_path / "report.html").exists()


def test_the_command_prints_the_path_of_the_report(run_cli, store, tmp_path):
    status, out, err = run_cli("report", store, "--out", tmp_path / "r.html", "--best", "1")
    assert (status, err) == (0, "")
    assert out == f"report: {tmp_path / 'r.html'}; open it in a browser\n"
    assert (tmp_path / "r.html").read_text().count('class="pulse"') == 1


@pytest.mark.parametrize(
    ("words", "message"), [(["--since", "soon"], "--since soon"), (["--since", "2040-01-01"], "has no blocks since")]
)
def test_a_wrong_option_is_one_line(run_cli, store, tmp_path, words, message):
    status, out, err = run_cli("report", store, "--out", tmp_path / "r.html", *words)
    assert (status, out) == (1, "")
    assert message in err
    assert len(err.splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_the_report_of_a_url_is_written_to_the_working_directory(store, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert write_report_beside(store.as_uri()) == "report: report.html; open it in a browser"
    assert (tmp_path / "report.html").is_file()


def test_a_missing_store_is_one_line(run_cli, tmp_path):
    status, _, err = run_cli("report", tmp_path / "none")
    assert status == 1
    assert len(err.splitlines()) == 1
    assert "there is no such directory" in err


@pytest.mark.parametrize("wanted", [True, False])
def test_replay_writes_the_report_beside_the_store(run_cli, data, tmp_path, wanted):
    recording = data / "synthetic" / "unpack_4bit.fil"
    status, out, _ = run_cli(
        "replay", recording, "--dm", "0:10", "--store", tmp_path / "s", *([] if wanted else ["--no-report"])
    )
    assert status == 0
    assert (tmp_path / "s-report.html").is_file() == wanted
    assert (f"report: {tmp_path / 's-report.html'}" in out) == wanted
    assert not list((tmp_path / "s").glob("*.html"))
