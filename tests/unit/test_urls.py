"""Users, passwords and tokens do not stay in texts that are shown or stored."""

import subprocess
import sys
import urllib.parse

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kmax.urls import credentials, has_credentials, without_credentials, without_secrets

TEXTS = {
    "http://user:S3cretPw@127.0.0.1:9": "http://127.0.0.1:9",
    "https://S3cretPw@github.com/a/b.git": "https://github.com/a/b.git",
    "ssh://git:S3cretPw@host/x and https://u:S3cretPw@h/y": "ssh://host/x and https://h/y",
    "postgresql+psycopg2://u:S3cretPw@h:5432/db": "postgresql+psycopg2://h:5432/db",
    "postgresql://h/db?user=S3cretPw&password=S3cretPw": "postgresql://h/db?user=***&password=***",
    "https://u:p@S3cretPw@host/x": "https://host/x",
    "https://u:a/S3cretPw@host:3/x": "https://host:3/x",
    "https://u:a@b/S3cretPw@host/x": "https://host/x",
    "http://u:a?S3cretPw#b@host/x": "http://host/x",
    "'http://u:it's-S3cretPw@host/x'": "'http://host/x'",
    "http%3A%2F%2Fu%3AS3cretPw%40host%2Fx": "http%3A%2F%2Fhost%2Fx",
    "https://h/f.zip?token=S3cretPw: not found": "https://h/f.zip?token=***: not found",
    "exceeded with url: /x?a=1&X-Amz-Signature=S3cretPw (Caused by": (
        "exceeded with url: /x?a=1&X-Amz-Signature=*** (Caused by"
    ),
    "https://h/x?AWSAccessKeyId=S3cretPw&Signature=S3cretPw&Expires=9": (
        "https://h/x?AWSAccessKeyId=***&Signature=***&Expires=9"
    ),
    "https://blob/x?sv=2020&sig=S3cretPw%2Fb%3D&se=1": "https://blob/x?sv=2020&sig=***&se=1",
    "https://h/x?Policy=S3cretPw&Key-Pair-Id=S3cretPw": "https://h/x?Policy=***&Key-Pair-Id=***",
    "https://h/x?X-Goog-Credential=S3cretPw": "https://h/x?X-Goog-Credential=***",
    "https://h/x?private_token=S3cretPw#access_token=S3cretPw": "https://h/x?private_token=***#access_token=***",
    "{'Authorization': 'Basic S3cretPw=='}": "{'Authorization': '***'}",
    "Proxy-Authorization: Bearer S3cretPw": "Proxy-Authorization: ***",
}
HARMLESS = [
    "sqlite:////home/u/mlflow.db",
    "http://[::1]:80/a@b",
    "http://127.0.0.1:9: connection refused, see http://host:80/x?f=1&page=2",
    "https://h/@scope/package",
    "https://drive.google.com/uc?id=1a2b&export=download&confirm=t",
    "git@github.com:a/b.git",
    "data/raw/img@2x.png: 12:30, keys=3",
    "https://h/x?design=3#keypoints",
    "",
]
PASSWORDS = st.text(st.characters(exclude_categories=("Cs",)), min_size=1)


@pytest.mark.parametrize(("text", "shown"), TEXTS.items())
def test_users_passwords_and_tokens_are_left_out(text: str, shown: str) -> None:
    assert without_credentials(text) == shown
    assert without_credentials(shown) == shown
    assert has_credentials(text)
    assert not has_credentials(shown)


@pytest.mark.parametrize("text", HARMLESS)
def test_other_texts_stay_as_they_are(text: str) -> None:
    assert without_credentials(text) == text


@given(PASSWORDS, PASSWORDS)
def test_any_quoted_user_and_password_is_left_out_and_the_host_stays(user: str, password: str) -> None:
    quoted = f"{urllib.parse.quote(user, safe='')}:{urllib.parse.quote(password, safe='')}"
    url = f"https://{quoted}@host:80/x"
    assert without_credentials(f"see {url}, or not") == "see https://host:80/x, or not"
    assert credentials(url) == (user, password)


def test_passwords_of_the_environment_are_hidden_in_every_form(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", "user:pa%24%24 w0rd@proxy:3128")
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "T0ken")
    text = without_secrets(
        "pa%24%24 w0rd, pa$$ w0rd, pa%24%24%20w0rd, pa%24%24+w0rd, dXNlcjpwYSQkIHcwcmQ=; T0ken."
    )
    assert text == "***, ***, ***, ***, ***; ***."


def test_words_and_paths_that_are_no_secrets_stay(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "train")
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "disabled-here")
    monkeypatch.setenv("SOME_SECRET", str(tmp_path))
    assert without_secrets(f"kmax train disabled-here {tmp_path}") == f"kmax train disabled-here {tmp_path}"


def test_the_user_of_a_store_is_hidden_in_its_errors() -> None:
    uri = "postgresql://me:S3cretPw@h/db"
    text = 'authentication failed for user "me": S3cretPw; me too'
    assert without_secrets(text, uri) == 'authentication failed for user "***": ***; me too'


def test_tracebacks_of_all_threads_are_without_secrets() -> None:
    code = """
import threading
from kmax.urls import hide_in_tracebacks
hide_in_tracebacks()
def fail():
    try:
        raise ValueError("http://u:" + "S3cretPw@host/a?token=" + "S3cretPw")
    except ValueError as error:
        raise RuntimeError("S3cret" + "Env") from error
thread = threading.Thread(target=fail)
thread.start()
thread.join()
fail()
"""
    answer = subprocess.run(
        [sys.executable, "-c", code],
        env={"MLFLOW_TRACKING_PASSWORD": "S3cretEnv", "PYTHONPATH": ":".join(sys.path)},
        capture_output=True,
        text=True,
    )
    assert answer.returncode == 1
    assert answer.stderr.count("ValueError: http://host/a?token=***") == 2
    assert answer.stderr.count("RuntimeError: ***") == 2
    assert "S3cretPw@" not in answer.stderr.replace('"S3cretPw@host', "")
