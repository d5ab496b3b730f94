"""Files that go out beside the weights; `bigs` itself runs them only to check an export."""
