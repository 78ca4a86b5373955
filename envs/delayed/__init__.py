"""Tests of memory and of delayed reward, small enough to be understood and long at will."""
