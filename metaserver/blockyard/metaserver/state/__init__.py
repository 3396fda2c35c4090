"""What the metadata group agrees on, as rows: keys, transactions, and the commands that change them."""
