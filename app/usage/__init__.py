"""What tenants use, and how much of it they may."""
