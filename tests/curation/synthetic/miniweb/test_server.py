"""Every listed address, fetched over HTTP, answers what the truth says of it."""

import http.client
import io
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image, ImageOps

from mmcorpus.curation.synthetic.miniweb import RunningSite, serve_site


@pytest.fixture(scope="module")
def site(small_site: Path) -> Iterator[RunningSite]:
    with serve_site(str(small_site)) as running:
        yield running


@pytest.fixture(scope="module")
def rows(small_site: Path) -> dict[str, list[dict]]:
    found: dict[str, list[dict]] = {}
    for row in pq.read_table(small_site / "truth.parquet").to_pylist():
        found.setdefault(row["spoil"], []).append(row)
    return found


def upright(body: bytes) -> Image.Image:
    with Image.open(io.BytesIO(body)) as image:
        image.load()
        return ImageOps.exif_transpose(image)


PICTURES = (
    "clean", "swapped_caption", "boilerplate_caption", "file_name_caption", "url_caption", "markup_caption",
    "empty_caption", "other_language", "exact_duplicate", "edited_duplicate", "reencoded_duplicate",
    "resized_duplicate", "cropped_duplicate", "brightened_duplicate", "listed_twice", "icon",
    "extreme_aspect", "blank", "blurred", "wrong_content_type", "redirect", "slow", "exif_rotated", "cmyk",
    "sixteen_bit", "palette_transparent", "rgba", "progressive", "animated", "noai", "noai_for_others",
)  # fmt: skip


@pytest.mark.parametrize("spoil", PICTURES)
def test_a_picture_comes_whole_and_upright(spoil: str, site: RunningSite, rows: dict, follow: Callable):
    for row in rows[spoil]:
        answer = follow(row["url"], site.connect_to)
        assert answer.status == 200
        assert upright(answer.body).size == (row["upright_width"], row["upright_height"])


def test_spoils_are_pictures_or_tested_below(rows: dict):
    others = {
        "truncated", "empty_body", "html_as_image", "http_404", "http_410", "http_403", "http_500", "transient_503",
        "redirect_loop", "redirect_private", "private_url", "bad_url", "drip", "endless", "reset", "bomb",
    }  # fmt: skip
    assert set(rows) == set(PICTURES) | others


@pytest.mark.parametrize("code", [403, 404, 410, 500])
def test_errors_stay_errors(code: int, site: RunningSite, rows: dict, get: Callable):
    for row in rows[f"http_{code}"]:
        assert [get(row["url"], site.connect_to).status for _ in range(3)] == [code] * 3


def test_a_transient_error_passes(small_site: Path, rows: dict, get: Callable):
    with serve_site(str(small_site)) as site:
        for row in rows["transient_503"]:
            assert get(row["url"], site.connect_to).status == 503
            answer = get(row["url"], site.connect_to)
            assert answer.status == 200
            assert upright(answer.body).size == (row["upright_width"], row["upright_height"])


def test_a_loop_never_ends(site: RunningSite, rows: dict, follow: Callable):
    for row in rows["redirect_loop"]:
        with pytest.raises(RecursionError):
            follow(row["url"], site.connect_to)


def test_private_addresses_are_reached_through_redirects_and_lists(
    site: RunningSite, rows: dict, follow: Callable, refused_host: type[Exception]
):
    for row in rows["redirect_private"] + rows["private_url"]:
        with pytest.raises(refused_host):
            follow(row["url"], site.connect_to)


def test_bad_urls_name_no_host_of_the_site(site: RunningSite, rows: dict):
    for row in rows["bad_url"]:
        assert urlsplit(row["url"]).scheme != "http" or not urlsplit(row["url"]).hostname


def test_broken_bodies_are_broken(site: RunningSite, rows: dict, get: Callable):
    for row in rows["empty_body"]:
        assert get(row["url"], site.connect_to).body == b""
    for row in rows["html_as_image"]:
        answer = get(row["url"], site.connect_to)
        assert answer.headers["Content-Type"].startswith("image/")
        assert answer.body.startswith(b"<!doctype html>")
    for row in rows["truncated"]:
        body = get(row["url"], site.connect_to).body
        with pytest.raises(OSError, match=r"truncat|broken|incomplete|decod|cannot identify|corrupt"):
            upright(body)


def test_a_bomb_is_small_and_its_picture_huge(site: RunningSite, rows: dict, get: Callable):
    for row in rows["bomb"]:
        body = get(row["url"], site.connect_to).body
        assert len(body) < 200_000
        with pytest.raises(Image.DecompressionBombError):
            Image.open(io.BytesIO(body))


def test_a_drip_never_ends(site: RunningSite, rows: dict):
    row = rows["drip"][0]
    parts = urlsplit(row["url"])
    connection = http.client.HTTPConnection("127.0.0.1", site.port, timeout=5)
    connection.request("GET", parts.path, headers={"Host": parts.hostname})
    response = connection.getresponse()
    assert response.status == 200
    assert len(response.read(3)) == 3
    assert response.headers["Content-Length"] is None
    connection.close()


def test_an_endless_body_outgrows_every_cap(site: RunningSite, rows: dict, get: Callable):
    for row in rows["endless"]:
        assert len(get(row["url"], site.connect_to, limit=20_000_000).body) == 20_000_000


def test_resets_break_the_connection(site: RunningSite, rows: dict, get: Callable):
    for row in rows["reset"]:
        with pytest.raises((ConnectionError, http.client.IncompleteRead)):
            get(row["url"], site.connect_to)


def test_odd_pictures_are_what_they_are_called(site: RunningSite, rows: dict, follow: Callable):
    def images(spoil: str) -> list[Image.Image]:
        return [Image.open(io.BytesIO(follow(row["url"], site.connect_to).body)) for row in rows[spoil]]

    assert {image.mode for image in images("cmyk")} == {"CMYK"}
    assert {image.mode for image in images("rgba")} == {"RGBA"}
    assert all(image.mode == "P" and "transparency" in image.info for image in images("palette_transparent"))
    assert all(getattr(image, "n_frames", 1) > 1 for image in images("animated"))
    assert all(image.info.get("progressive") for image in images("progressive"))
    assert all(2 <= image.getexif()[0x0112] <= 8 for image in images("exif_rotated"))
    depths = {follow(row["url"], site.connect_to).body[24] for row in rows["sixteen_bit"]}
    assert depths == {16}


def test_opt_outs_stand_in_a_header(site: RunningSite, rows: dict, get: Callable):
    for row in rows["noai"]:
        value = get(row["url"], site.connect_to).headers["X-Robots-Tag"]
        assert any(word in value for word in ("noai", "noimageai", "noindex", "none"))
    for row in rows["noai_for_others"]:
        assert get(row["url"], site.connect_to).headers["X-Robots-Tag"] == "otherbot: noai"


def test_rotated_pictures_turn_back_to_what_was_drawn(site: RunningSite, rows: dict, small_config, follow: Callable):
    from mmcorpus.curation.synthetic.miniweb.plan import plan_site
    from mmcorpus.curation.synthetic.render import render

    slots = plan_site(small_config)
    for row in rows["exif_rotated"]:
        slot = slots[row["row"]]
        drawn = np.asarray(render(slot.kind, slot.seed, size=slot.size).image, dtype=float)
        served = np.asarray(upright(follow(row["url"], site.connect_to).body).convert("RGB"), dtype=float)
        assert np.abs(drawn - served).mean() < 6


def test_other_hosts_and_paths_are_not_served(site: RunningSite):
    connection = http.client.HTTPConnection("127.0.0.1", site.port, timeout=5)
    statuses = []
    for host, path in (
        ("elsewhere.test", "/"),
        (site.site.hosts[0], "/nothing.jpg"),
        (site.site.hosts[0], "/../site.json"),
    ):
        connection.request("GET", path, headers={"Host": host})
        response = connection.getresponse()
        response.read()
        statuses.append(response.status)
    connection.request("POST", "/", body=b"x", headers={"Host": site.site.hosts[0]})
    statuses.append(connection.getresponse().status)
    connection.close()
    assert statuses == [421, 404, 404, 405]


def test_a_request_that_is_none_closes_the_connection(site: RunningSite):
    with socket.create_connection(("127.0.0.1", site.port), timeout=5) as raw:
        raw.sendall(b"hello\r\n\r\n")
        assert raw.recv(1000).startswith(b"HTTP/1.1 400 ")


def test_sixty_four_clients_are_served_at_once_and_counted(small_site: Path, rows: dict, get: Callable):
    urls = [row["url"] for row in rows["clean"]][:40] * 5
    with serve_site(str(small_site)) as site:
        with ThreadPoolExecutor(64) as pool:
            statuses = list(pool.map(lambda url: get(url, site.connect_to).status, urls))
        assert statuses == [200] * len(urls)
        assert site.requests.total() == len(urls)
        assert site.requests[urls[0].removeprefix("http://")] == 5


def test_connections_are_kept_open(site: RunningSite, rows: dict):
    connection = http.client.HTTPConnection("127.0.0.1", site.port, timeout=5)
    sockets = set()
    for row in rows["clean"][:5]:
        parts = urlsplit(row["url"])
        connection.request("GET", parts.path, headers={"Host": parts.hostname})
        assert connection.getresponse().read()
        sockets.add(id(connection.sock))
    connection.close()
    assert len(sockets) == 1


def test_the_server_stops_with_its_block_even_while_it_drips(small_site: Path, rows: dict):
    before = threading.active_count()
    parts = urlsplit(rows["drip"][0]["url"])
    with serve_site(str(small_site)) as site:
        client = socket.create_connection(("127.0.0.1", site.port), timeout=5)
        client.sendall(f"GET {parts.path} HTTP/1.1\r\nHost: {parts.hostname}\r\n\r\n".encode())
        assert client.recv(100)
    client.close()
    assert threading.active_count() == before
    with pytest.raises(OSError, match=r"refused|reset"):
        socket.create_connection(("127.0.0.1", site.port), timeout=1)


def test_a_chosen_port_is_used_and_a_taken_one_refused(small_site: Path):
    with (
        serve_site(str(small_site)) as site,
        pytest.raises(OSError, match="in use"),
        serve_site(str(small_site), port=site.port),
    ):
        pass
    with serve_site(str(small_site), port=site.port) as again:
        assert again.port == site.port


def test_a_folder_without_a_site_is_refused(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match="no complete site"), serve_site(str(tmp_path)):
        pass
