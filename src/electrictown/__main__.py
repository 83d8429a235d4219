"""`python -m electrictown` is `et`."""

from electrictown.cli.main import main

if __name__ == "__main__":
    main()
