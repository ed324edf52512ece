"""`zppo bench`: named, repeatable measurements with their limit beside them."""
