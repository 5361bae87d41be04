"""Films like one that you name, from a cluster that has them; uses only the public client.

python examples/films/similar.py "Rocky III" [--url http://127.0.0.1:6333] [--since 1990]
"""

import argparse
from typing import Any

from balsadb import Client


def main() -> None:
    """Find the film by its title, then its nearest ones."""
    parser = argparse.ArgumentParser(description="Films like one that you name.")
    parser.add_argument("title")
    parser.add_argument("--url", default="http://127.0.0.1:6333")
    parser.add_argument("--since", type=int, default=1900, help="only films of this year or later")
    arguments = parser.parse_args()
    title: str = arguments.title
    by_title = {"must": [{"key": "title", "match": {"value": title}}]}
    recent = {"must": [{"key": "year", "range": {"gte": arguments.since}}]}
    with Client(arguments.url) as client:
        for film in client.scroll("films", filter=by_title, limit=3).points:
            print(f"like {describe(film.payload)}:")
            for point in client.query("films", film.id, limit=6, filter=recent):
                print(f"  {point.score:.4f}  {describe(point.payload)}")


def describe(payload: dict[str, Any] | None) -> str:
    """`Title (year)`."""
    return f"{payload['title']} ({payload['year']})" if payload else "?"


if __name__ == "__main__":
    main()
