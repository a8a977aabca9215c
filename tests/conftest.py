"""What every test can ask for."""

pytest_plugins = ["tests.fixtures_services", "tests.fixtures_model"]
