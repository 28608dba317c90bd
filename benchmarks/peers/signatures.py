"""MinHash signatures by datasketch or rensa, from texts to numbers, in one thread; prints seconds as JSON.

python signatures.py datasketch|rensa|rensa-hashed TEXTS.json PERMUTATIONS
"""

import json
import sys
import time

WORDS = 5


def shingles(text: str) -> list[str]:
    """Words of five, as our shingles of a text that is in lower case and has no punctuation."""
    words = text.split()
    return [" ".join(words[start : start + WORDS]) for start in range(max(1, len(words) - WORDS + 1))]


def main() -> None:
    """Read, warm up, measure, print."""
    peer, path, permutations = sys.argv[1], sys.argv[2], int(sys.argv[3])
    with open(path) as file:
        texts = json.load(file)
    if peer == "datasketch":
        from datasketch import MinHash

        def sign(texts: list[str]) -> object:
            first = MinHash(num_perm=permutations)
            signatures = []
            for text in texts:
                own = MinHash(num_perm=permutations, permutations=first.permutations, scheme=first.scheme)
                own.update_batch([shingle.encode() for shingle in shingles(text)])
                signatures.append(own.digest())
            return signatures
    else:
        from rensa import RMinHash

        def sign(texts: list[str]) -> object:
            return RMinHash.digest_matrix_from_token_sets([shingles(text) for text in texts], permutations, 1)

        if peer == "rensa-hashed":  # the permutations alone
            hashed = RMinHash.hash_token_sets([shingles(text) for text in texts])

            def sign(texts: list[str]) -> object:
                return RMinHash.digest_matrix_from_token_hash_sets(hashed, permutations, 1)

    sign(texts[:10])
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        sign(texts)
        seconds.append(time.perf_counter() - start)
    print(json.dumps({"seconds": sorted(seconds)[1]}))


if __name__ == "__main__":
    main()
