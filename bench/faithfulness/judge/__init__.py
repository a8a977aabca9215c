"""From what retraining showed and what the methods said to one table: who predicted it, how surely, at what cost."""
