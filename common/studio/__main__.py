"""python -m common.studio: see server.py."""

from common.runtime import cli
from common.studio import server

if __name__ == "__main__":
    cli.run_main(server.main)
