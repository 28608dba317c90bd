"""The identity of a sample: 128 bits of content, never of position (DESIGN §3)."""

import hashlib
import re

UID_PATTERN = re.compile(r"[0-9a-f]{32}\Z")


def pair_uid(url: str, caption: str) -> str:
    """The uid of an image-caption pair: 32 lower-case hex digits of BLAKE2b-128 over url and caption.

    The url's length goes into the hash, so ("ab", "c") and ("a", "bc") differ.
    """
    url_bytes = url.encode("utf-8", "surrogatepass")
    digest = hashlib.blake2b(digest_size=16)
    digest.update(len(url_bytes).to_bytes(8, "little"))
    digest.update(url_bytes)
    digest.update(caption.encode("utf-8", "surrogatepass"))
    return digest.hexdigest()


def document_uid(url: str, digest: str) -> str:
    """The uid of a web page's document: of its address and of the digest of the record that holds it."""
    return pair_uid(url, digest)


def node_uid(document: str, number: int) -> str:
    """The uid of a document's node, by its number in the document as extracted, from 0."""
    return hashlib.blake2b(f"{document}:{number}".encode(), digest_size=16).hexdigest()


def is_uid(text: object) -> bool:
    """True for 32 lower-case hex digits."""
    return isinstance(text, str) and UID_PATTERN.match(text) is not None


def uid_fraction(uid: str, salt: str = "") -> float:
    """A uniform number in [0, 1) that depends on the uid and the salt alone.

    The one source of "random" choices about samples (held-out splits, ties, subsampling): the same on
    every machine, in every order, after every retry.
    """
    digest = hashlib.blake2b(uid.encode(), digest_size=8, salt=hashlib.blake2b(salt.encode(), digest_size=16).digest())
    return int.from_bytes(digest.digest(), "little") / 2**64
