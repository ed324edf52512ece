"""Clients of servers, and the judge behind one."""
