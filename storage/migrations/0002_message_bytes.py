"""A home for message bytes inside PostgreSQL, where no node's disk is everybody's. On SQLite the table stays empty."""

from typing import Any

from tortoise import fields, migrations
from tortoise.migrations import operations as ops


async def store_as_they_are(_apps: Any, editor: Any) -> None:
    """Ciphertext does not get smaller: PostgreSQL need not try to compress it, at 1 MB a piece."""
    if editor.client.capabilities.dialect == "postgres":
        await editor.client.execute_script("ALTER TABLE message_bytes ALTER COLUMN data SET STORAGE EXTERNAL")


class Migration(migrations.Migration):
    dependencies = [("pli", "0001_initial")]

    operations = [
        ops.CreateModel(
            name="MessageBytes",
            fields=[
                ("id", fields.CharField(primary_key=True, unique=True, db_index=True, max_length=64)),
                ("data", fields.BinaryField()),
            ],
            options={
                "table": "message_bytes",
                "app": "pli",
                "pk_attr": "id",
                "table_description": "On PostgreSQL a piece of a sealed stream (SQLite has segment files for them): its id is the stream's name and a number.",
            },
            bases=["Model"],
        ),
        ops.RunPython(store_as_they_are),
    ]
