"""What a proposal must pass: proof, similarity, room to archive; and decay by formula."""
