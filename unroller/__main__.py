"""`python -m unroller`: the command line, where the `unroller` script is not on the path."""

from unroller.cli import main

if __name__ == "__main__":
    main()
