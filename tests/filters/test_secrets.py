"""Secrets masked by their place, their form, and word for word; nothing else changed; in linear time."""

import pytest

from mmcorpus.filters import secrets
from mmcorpus.filters.secrets import as_key, known, masked, masked_text, remember_config, remember_environment
from tests.linear import assert_linear

RANDOM = "Qx7Zk29LmN4pRt8VwYb3"


@pytest.fixture(autouse=True)
def nothing_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(secrets, "_known", set())
    monkeypatch.setattr(secrets, "_known_pattern", None)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "http://alice:TOPSECRETPW@host/list.csv?X-Amz-Signature=SIGSECRET&page=1",
            "http://***@host/list.csv?X-Amz-Signature=***&page=1",
        ),
        ("https://TOKEN@host/x: no such file", "https://***@host/x: no such file"),
        ("s3://KEY:SE%2FCRET@bucket/x", "s3://***@bucket/x"),
        ("simplecache::https://u:p@h/x", "simplecache::https://***@h/x"),
        (
            "https://a.blob.core.windows.net/c/b?sv=2020&st=a&se=b&sr=c&sp=r&sig=XX%3D",
            "https://a.blob.core.windows.net/c/b?sv=***&st=***&se=***&sr=***&sp=***&sig=***",
        ),
        (
            "https://d.cloudfront.net/x?a=1&Expires=12&Signature=abc&Key-Pair-Id=K",
            "https://d.cloudfront.net/x?a=1&Expires=***&Signature=***&Key-Pair-Id=***",
        ),
        (
            "https://storage.googleapis.com/b/o?X-Goog-Credential=c&X-Goog-Date=d&X-Goog-Signature=s",
            "https://storage.googleapis.com/b/o?X-Goog-Credential=***&X-Goog-Date=***&X-Goog-Signature=***",
        ),
        ("https://h/x?%74oken=abc&amp;access_token=d#id_token=e", "https://h/x?%74oken=***&amp;access_token=***#id_token=***"),
        (r'{"url": "http:\/\/u:p@h\/x?key=1\u0026w=2"}', r'{"url": "http:\/\/***@h\/x?key=***\u0026w=2"}'),
        (
            "https://h/l.csv?oauth_token=a&X-Plex-Token=b&wsSecret=c&hdnts=exp=1~hmac=d&pass=e&page=2&app_key=f&token%5B%5D=g",
            "https://h/l.csv?oauth_token=***&X-Plex-Token=***&wsSecret=***&hdnts=***&pass=***&page=2&app_key=***"
            "&token%5B%5D=***",
        ),
        ("https://h/x;jsessionid=abc", "https://h/x;jsessionid=***"),
        ("https://h/x?x-cos-security-token=d&author=e&auth_sig=f", "https://h/x?x-cos-security-token=***&author=e&auth_sig=***"),
        ("https://app.test/cb?code=SplxlOBeZQQYbYS6WxSbIA&state=x", "https://app.test/cb?code=***&state=x"),
        ("https://cas.test/?ticket=ST-1856339-aA5Yuvrxzpv8Tau1cYQ7", "https://cas.test/?ticket=***"),
        ("https://maps.test/v3/?ak=E4805d16520de693&sk=0a1b2c3d4e5f&q=x", "https://maps.test/v3/?ak=***&sk=***&q=x"),
        (
            "https://p.test/get?u=https%3A%2F%2Fa.test%2Fx.jpg%3Ftoken%3DTOPSECRET%26w%3D3&h=2",
            "https://p.test/get?u=https%3A%2F%2Fa.test%2Fx.jpg%3Ftoken%3D***%26w%3D3&h=2",
        ),
        (
            "https://p.test/get?u=https%253A%252F%252Fa.test%252Fx.jpg%253Ftoken%253DTOPSECRET%2526w%253D3&h=2",
            "https://p.test/get?u=https%253A%252F%252Fa.test%252Fx.jpg%253Ftoken%253D***%2526w%253D3&h=2",
        ),
        (
            "https://p.test/?a=https%3A%2F%2Fq.test%2F%3Fb%3Dhttps%253A%252F%252Fr.test%252F%253Fsig%253DTOPSECRET",
            "https://p.test/?a=https%3A%2F%2Fq.test%2F%3Fb%3Dhttps%253A%252F%252Fr.test%252F%253Fsig%253D***",
        ),
        (
            "https://p.test/?next=https%3A%2F%2Fuser%3ATOPSECRET%40a.test%2Fx&page=1",
            "https://p.test/?next=https%3A%2F%2F***%40a.test%2Fx&page=1",
        ),
        ("Authorization: Bearer abc.def-123", "Authorization: Bearer ***"),
        ("{'Authorization': 'Basic dXNlcjpwdw=='}", "{'Authorization': 'Basic ***'}"),
        ("curl -H 'X-Api-Key: 1234abcd'", "curl -H 'X-Api-Key: ***'"),
        ("vllm --api-key abc --model m", "vllm --api-key *** --model m"),
        ("vllm --api-key=abc", "vllm --api-key=***"),
        ("AccountName=x;AccountKey=abc==;EndpointSuffix=y", "AccountName=x;AccountKey=***;EndpointSuffix=y"),
        ('{"password": "hunter22"}', '{"password": "***"}'),
        ("token hf_abcdefghijklmnopqrst is bad", "token *** is bad"),
        ("AKIAIOSFODNN7EXAMPLE", "***"),
        (f"https://h/x?hash={RANDOM}&__gda__=1_a&t=12", "https://h/x?hash=***&__gda__=***&t=12"),
        (f"https://h/token/{RANDOM}/list.csv", "https://h/token/***/list.csv"),
        (f"https://hooks.slack.test/services/T01/B02/{RANDOM}", "https://hooks.slack.test/services/T01/B02/***"),
        (f"https://api.test/bot123456789:{RANDOM}/x", "https://api.test/bot123456789:***/x"),
        ("https://u:pass/wo?rd@h/x", "https://***@h/x"),
        ("/home/x/https:/u:pass@h/l.csv", "/home/x/https:/***@h/l.csv"),
        ("zip://a.csv::https://u:pass@h/x.zip", "zip://a.csv::https://***@h/x.zip"),
        ("//u:pass@h/x", "//***@h/x"),
        ("https://p.test/https%3A%2F%2Fu%3Apass%40h%2Fx", "https://p.test/https%3A%2F%2F***%40h%2Fx"),
        ("DB_PASSWORD=abc PGPASSWORD=d psql", "DB_PASSWORD=*** PGPASSWORD=*** psql"),
        ("X-Goog-Api-Key: abc, x-amz-security-token: def", "X-Goog-Api-Key: ***, x-amz-security-token: ***"),
        ('Authorization: Digest username="u", response="abc"\nnext', "Authorization: ***\nnext"),
        ("Set-Cookie: sid=abc; Path=/\nnext", "Set-Cookie: ***\nnext"),
        (f"401: Incorrect API key provided: {RANDOM}.", "401: Incorrect API key provided: ***."),
        (f"--token {RANDOM} and token: {RANDOM}", "--token *** and token: ***"),
        ("-----BEGIN RSA PRIVATE KEY-----\nMIIE\n-----END", "-----BEGIN RSA PRIVATE KEY-----***-----END"),
        (f"sk_live_{RANDOM} npm_{RANDOM}{RANDOM}", "*** ***"),
    ],
)  # fmt: skip
def test_secrets_are_masked(text: str, expected: str) -> None:
    assert masked_text(text) == expected
    assert masked_text(expected) == expected


@pytest.mark.parametrize(
    "text",
    [
        "https://host/@user/x.jpg?w=3&h=2&page=4&v=5#top=1", "mail a@b.example", "clip.score > 0.3 and key == 3",
        "unexpected token: <image>", "max_tokens=5, eos_token=</s>, tokenizer: smol", "keep: image.min_side >= 200",
        "https://h/get?key=lists/1.csv", "https://h/get?key=a%2Fb", "https://h/get?key=2.parquet&tokens=5&tokenizer=x",
        "https://h/x?country_code=DE&postcode=10115&zip_code=90210-1234&code=404&error_code=out_of_range&barcode=40063813",
        "https://h/x?q=50%25%20off&next=https%3A%2F%2Fa.test%2F%3Fpage%3D2%26country_code%3DDE", "https://h/?sk=asc&ak=1",
        "https://h/x?q=%3F%3F%26%26%25&r=100%&s=%zz%3D", "https://h/x?ticket=4711&asks=abcdefgh&task=abcdefgh",
        "data:image/jpeg;base64,/9j/4AAQ=", "https://h/i/5f3e9a8b7c6d5e4f3a2b1c0d9e8f7a6b.jpg?name=MountainView2024HD",
        "see http://x: foo/bar@baz", "https://h:8080/a@2x.png", "https://h/token/overview-of-the-tokens/x.html",
        "zip://a.csv::https://h/@user/x.zip", "a // comment foo@bar", "img:/a@2x.png", "cookie: banner", "cookies: 3",
        "the key is in the config", "from 0123456789abcdef0123456789abcdef to 0", "tokens: 12345678901234567890",
        "https://host/x?expires=12&sp=1&date=2", "C://x", "sk-learn-contrib",
    ],
)  # fmt: skip
def test_what_is_no_secret_stays(text: str) -> None:
    assert masked_text(text) == text
    assert masked(text) == text


def test_configs_are_masked_by_their_keys_and_stay_as_they_are_elsewhere() -> None:
    config = {
        "sources": {"pairs": {"urls": "https://a:b@h/l.csv?sig=1&page=2"}},
        "server": {"env": {"HF_TOKEN": "x", "LEVEL": "1"}, "args": ["--api-key", "k", "--max-model-len", "4"]},
        "storage_options": {"key": "k", "secret": "s"}, "password": "p", "eos_token": "</s>", "n": 3, "none": None,
    }  # fmt: skip
    assert masked(config) == {
        "sources": {"pairs": {"urls": "https://***@h/l.csv?sig=***&page=2"}},
        "server": {"env": {"HF_TOKEN": "***", "LEVEL": "***"}, "args": ["--api-key", "***", "--max-model-len", "4"]},
        "storage_options": {"key": "***", "secret": "***"}, "password": "***", "eos_token": "</s>", "n": 3,
        "none": None,
    }  # fmt: skip
    assert masked({"https://u:p@h/x": 1}) == {"https://***@h/x": 1}


def test_secrets_of_a_scorer_of_ones_own_are_masked() -> None:
    scorer = {
        "my:Judge": {"openai_api_key": "abcdefgh", "db_password": "ijklmnop", "pad_token": "<pad>", "key_col": "k"}
    }
    masked_scorer = {"openai_api_key": "***", "db_password": "***", "pad_token": "<pad>", "key_col": "k"}
    assert masked(scorer) == {"my:Judge": masked_scorer}
    remember_config(scorer)
    assert masked_text("abcdefgh ijklmnop") == "*** ***"


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"args": f"--api-key {RANDOM} -x"}, {"args": "--api-key *** -x"}),
        ({"command": [f"HF_TOKEN={RANDOM} vllm"]}, {"command": ["HF_TOKEN=***"]}),
        ({"http_headers": {"x": {"y": RANDOM}}}, {"http_headers": {"x": {"y": "***"}}}),
        ({"env": [{"name": "X", "value": RANDOM}]}, {"env": [{"name": "***", "value": "***"}]}),
        ({"password": [RANDOM, 1234567, None]}, {"password": ["***", "***", None]}),
        ({"my_token": RANDOM, "end_token": "</s>", "token": 7}, {"my_token": "***", "end_token": "</s>", "token": 7}),
        ({"urls": f"https://h/sas/{RANDOM}"}, {"urls": "https://h/sas/***"}),
    ],
)
def test_nested_secrets_of_configs_are_masked_and_known(config: dict[str, object], expected: object) -> None:
    assert masked(config) == expected
    remember_config(config)
    assert masked_text(f"bare {RANDOM}") == "bare ***"


@pytest.mark.parametrize(
    "config",
    [
        {"/data/animals/monkeys": ["tar", "0f3e9a8b7c6d5e4f3a2b1c0d9e8f7a6b"]},
        {"lists": {"s3://bucket/api_key": "0f3e9a8b7c6d5e4f3a2b1c0d9e8f7a6b", "keys": RANDOM}},
        {"sources": {"auth": "pair", "password": "document"}, "annotations": {"token": "cookies"}},
        {"mix": {"cookies": 0.5, "secret": 2}, "mix_groups": {"env": {"rate": 1, "sizes": {"headers": 9}}}},
        {"sources": {"token": {"urls": "a.csv", "columns": {"image": "key", "uid": "signature"}}}},
        {"train": {"stages": {"secret": {"pack": "auth"}}}, "pack": {"credentials": {"sources": ["cookie"]}}},
        {"cookies": 0.5},
    ],
)
def test_names_that_somebody_chose_tell_nothing_of_their_values(config: dict[str, object]) -> None:
    assert masked(config) == config
    before = known()
    remember_config(config)
    assert known() == before


def test_beneath_such_names_secrets_are_masked_as_elsewhere() -> None:
    config = {"sources": {"auth": {"urls": "https://a:b@h/l", "storage_options": {"x": "y"}}, "p": "hf_" + "a1" * 9}}
    hidden = {"urls": "https://***@h/l", "storage_options": {"x": "***"}}
    assert masked(config) == {"sources": {"auth": hidden, "p": "***"}}
    remember_config({"sources": {"auth": {"password": "opensesame"}, "/a/b": {"my_token": RANDOM}}})
    assert masked_text(f"opensesame {RANDOM}") == "*** ***"
    assert [as_key(name) for name in ("image", "secret", "my_cookies")] == ["image", "/secret", "/my_cookies"]


def test_fingerprints_tell_urls_apart_that_only_look_like_secrets() -> None:
    url = f"https://h/x?id={RANDOM}"
    assert masked(url) == url
    assert masked_text(url) == "https://h/x?id=***"


def test_variables_of_a_command_are_masked_in_it_and_word_for_word() -> None:
    command = ["env", "HF_TOKEN=abcdefgh", "LEVEL=1", "vllm", "--api-key", "ijklmnop", "--model=m"]
    assert masked(command) == ["env", "HF_TOKEN=***", "LEVEL=1", "vllm", "--api-key", "***", "--model=m"]
    remember_config(
        {"command": command, "urls": "https://h/l.csv?auth_sig=1&download_token=qrstuvwx&X-Amz-Date=20300101T0"}
    )
    assert masked_text("abcdefgh, ijklmnop, qrstuvwx, 20300101T0") == "***, ***, ***, 20300101T0"


def test_secrets_are_masked_where_a_sentence_goes_on_behind_the_address() -> None:
    hook = f"https://hooks.slack.test/services/T01/B02/{RANDOM}: 403"
    assert masked_text(hook) == "https://hooks.slack.test/services/T01/B02/***: 403"
    assert masked_text(f"https://h/token/{RANDOM}: refused") == "https://h/token/***: refused"
    assert masked_text(f"https://h/x?zz={RANDOM}: no image") == "https://h/x?zz=***: no image"
    assert masked_text("https://h/x?page=2: no image") == "https://h/x?page=2: no image"


def test_known_secrets_are_masked_word_for_word_in_messages_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    remember_config({"server": {"env": {"X": "odd value/1"}}, "urls": "http://a:pass%2Fword@h/?sig=signature1"})
    monkeypatch.setenv("MY_API_KEY", "from the environment")
    monkeypatch.setenv("TOKEN_FILE", "/etc/a-long-path")
    monkeypatch.setenv("MAX_TOKENS", "unlimited")
    monkeypatch.setenv("TOKEN_LIMIT", "1000000")
    monkeypatch.setenv("SOMETHING", "an endpoint's key")
    remember_config({"client": {"key_variable": "SOMETHING"}})
    remember_environment()
    assert masked_text("an endpoint's key") == "***"
    plain = "/etc/a-long-path, unlimited 1000000"
    text = f"odd value/1, odd%20value%2F1, pass/word, signature1, from the environment, {plain}"
    assert masked_text(text) == f"***, ***, ***, ***, ***, {plain}"
    assert masked("odd value/1") == "odd value/1", "a fingerprint does not depend on what a process has met"


@pytest.mark.parametrize(
    "piece",
    ["a:", "://", "&a=", "?sig=a", "eyJ", "-a=", "bearer ", "a", "token=", "http://a@", "--api-key ", "password:",
     "://u:a/", "/token/", "/a-token", "a%3A%2F%2F", "%3A%2F%2F", "cookie:a=", "authorization: basic ", "key is ",
     "-----BEGIN PRIVATE KEY-----", "/services/t/b/"],
)  # fmt: skip
def test_time_is_linear(piece: str) -> None:
    assert_linear(masked_text, lambda size: piece * (size // len(piece)))


def test_secrets_of_nested_urls_are_known_too() -> None:
    remember_config({"urls": "https://p.test/?u=https%253A%252F%252Fa.test%252F%253Ftoken%253Dabcdefgh&code=oxford"})
    assert masked_text("abcdefgh of oxford") == "*** of oxford"


@pytest.mark.parametrize(
    "piece",
    ["?a=::", "/token/::::::::::::", "?a=%3Fb%3Dc%26", "%253Fx%253D", "?u=https%3A%2F%2F", "&code=", "%25", "?a=%"],
)
def test_nested_urls_take_linear_time(piece: str) -> None:
    assert_linear(masked_text, lambda size: "https://h/?a=" + piece * size)
