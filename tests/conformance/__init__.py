"""HTTP/1.1 conformance: two tables of messages, and the test over them. How a row is read: `table.py`."""
