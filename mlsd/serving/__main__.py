"""python -m mlsd.serving: run the ranking service, see `service`."""

import sys


def _import_lightgbm_alone() -> None:
    """LightGBM imports scikit-learn and pandas where it finds them: two seconds of processor time and 100 MB at each start
    of a process that has no use for them. It does without if they cannot be imported; bundles still can afterwards."""
    unused = [name for name in ("sklearn", "pandas", "matplotlib") if name not in sys.modules]
    sys.modules.update(dict.fromkeys(unused))
    try:
        import lightgbm  # noqa: F401
    finally:
        for name in unused:
            sys.modules.pop(name, None)


if __name__ == "__main__":
    _import_lightgbm_alone()
    from mlsd.serving.service import main

    main()
