"""What the documentation's site has beyond the files of docs/: a page for each
method, the reference of the code, notebooks with their outputs, and links."""
