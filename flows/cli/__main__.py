"""`python -m flows.cli`: the command `recsys` where no console script is installed."""

from flows.cli.main import main

if __name__ == "__main__":
    main()
