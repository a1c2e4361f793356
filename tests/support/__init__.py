"""What the Python tests share: real servers, real agents, real clients. Nothing here asserts."""
