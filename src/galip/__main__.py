"""`python -m galip` is the command `galip`."""

from galip.cli import main

if __name__ == "__main__":
    main()
