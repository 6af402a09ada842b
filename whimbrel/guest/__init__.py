"""The workload guest: a bare-metal program that writes memory as told and proves that no write was lost."""
