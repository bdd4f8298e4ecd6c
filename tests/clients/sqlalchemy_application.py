"""An application that keeps customers and their invoices by SQLAlchemy, and remembers what it has written.

Three clerks at the same time, each with customers of his own: they create, change, delete, roll back, and read most of the
time, by objects, by joins and by sums. Whatever is read must be what was written last. First with psycopg2 (simple protocol),
then with asyncpg (prepared statements).
"""

import asyncio
import os
import random
import threading

from sqlalchemy import Column, ForeignKey, Integer, String, create_engine, func, select, update
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.orm import Session, declarative_base, relationship

CLERKS = 3
STEPS = 120
Base = declarative_base()


class Customer(Base):
    __tablename__ = "qa_customer"
    id = Column(Integer, primary_key=True)
    clerk = Column(Integer, nullable=False)
    name = Column(String, nullable=False)
    invoices = relationship("Invoice", back_populates="customer", cascade="all, delete-orphan")


class Invoice(Base):
    __tablename__ = "qa_invoice"
    id = Column(Integer, primary_key=True)
    customer_id = Column(ForeignKey("qa_customer.id", ondelete="CASCADE"), nullable=False)
    amount = Column(Integer, nullable=False)
    customer = relationship("Customer", back_populates="invoices")


class Rollback(Exception):
    pass


class Clerk:
    def __init__(self, engine, number):
        self.engine, self.number = engine, number
        self.random = random.Random(number)
        self.customers = {}  # id -> [name, {invoice id -> amount}]

    def work(self):
        for step in range(STEPS):
            self.random.choice([self.create, self.charge, self.rename, self.remove, self.in_vain])(step)
            for _ in range(3):
                self.random.choice([self.look_at_objects, self.look_at_sums, self.look_at_join])()

    def any(self):
        return self.random.choice(list(self.customers)) if self.customers else None

    def create(self, step):
        with Session(self.engine) as session, session.begin():
            customer = Customer(clerk=self.number, name=f"{self.number}/{step}")
            customer.invoices = [Invoice(amount=self.random.randrange(100)) for _ in range(3)]
            session.add(customer)
            session.flush()
            content = [customer.name, {invoice.id: invoice.amount for invoice in customer.invoices}]
            identity = customer.id
        self.customers[identity] = content

    def charge(self, step):
        identity = self.any()
        if identity is None:
            return
        with Session(self.engine) as session, session.begin():
            customer = session.get(Customer, identity)
            assert len(customer.invoices) == len(self.customers[identity][1])
            invoice = Invoice(amount=step)
            customer.invoices.append(invoice)
            session.execute(update(Invoice).where(Invoice.customer_id == identity).values(amount=Invoice.amount + 1))
            session.flush()
            added = invoice.id
            session.refresh(invoice)
            amount = invoice.amount
        amounts = self.customers[identity][1]
        for number in amounts:
            amounts[number] += 1
        amounts[added] = amount

    def rename(self, step):
        identity = self.any()
        if identity is not None:
            with Session(self.engine) as session, session.begin():
                session.get(Customer, identity).name = f"renamed {step}"
            self.customers[identity][0] = f"renamed {step}"

    def remove(self, step):
        identity = self.any()
        if identity is not None:
            with Session(self.engine) as session, session.begin():
                session.delete(session.get(Customer, identity))
            del self.customers[identity]

    def in_vain(self, step):
        identity = self.any()
        if identity is None:
            return
        try:
            with Session(self.engine) as session, session.begin():
                session.get(Customer, identity).name = "nobody"
                session.flush()
                name = session.execute(select(Customer.name).where(Customer.id == identity)).scalar_one()
                assert name == "nobody", name
                raise Rollback
        except Rollback:
            pass

    def look_at_objects(self):
        with Session(self.engine) as session:
            found = session.execute(select(Customer).where(Customer.clerk == self.number)).scalars().all()
            seen = {one.id: [one.name, {invoice.id: invoice.amount for invoice in one.invoices}] for one in found}
        assert seen == self.customers, (seen, self.customers)

    def look_at_sums(self):
        query = select(func.count(Invoice.id), func.coalesce(func.sum(Invoice.amount), 0)).join(Customer)
        with self.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            count, total = connection.execute(query.where(Customer.clerk == self.number)).one()
        amounts = [amount for _, invoices in self.customers.values() for amount in invoices.values()]
        assert (count, total) == (len(amounts), sum(amounts)), (count, total, amounts)

    def look_at_join(self):
        identity = self.any()
        query = select(Customer.name, Invoice.amount).join(Invoice).where(Customer.id == identity)
        with Session(self.engine) as session:
            seen = sorted(map(tuple, session.execute(query)))
        if identity is not None:
            name, invoices = self.customers[identity]
            assert seen == sorted((name, amount) for amount in invoices.values()), (seen, name, invoices)


def address(driver):
    return f"postgresql+{driver}://{os.environ['PGUSER']}@127.0.0.1:{os.environ['PGPORT']}/{os.environ['PGDATABASE']}"


def by_threads():
    engine = create_engine(address("psycopg2"), pool_size=CLERKS)
    Base.metadata.create_all(engine)
    clerks = [Clerk(engine, number) for number in range(CLERKS)]
    failures = []

    def work(clerk):
        try:
            clerk.work()
        except BaseException as failure:
            failures.append(repr(failure))

    threads = [threading.Thread(target=work, args=(clerk,)) for clerk in clerks]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures, failures
    engine.dispose()


async def by_tasks():
    engine = create_async_engine(address("asyncpg"), pool_size=CLERKS)

    async def work(number):
        clerk = Clerk(None, number)
        async with engine.connect() as connection:
            # The clerk's calls run in a greenlet, which lets other tasks run while it waits.
            def work(one):
                clerk.engine = one.engine
                clerk.work()

            await connection.run_sync(work)

    await asyncio.gather(*(work(CLERKS + number) for number in range(CLERKS)))
    await engine.dispose()


by_threads()
asyncio.run(by_tasks())
print("ok")
