"""A budget whose clock on the wall is slow by less than two seconds: within the runner's slack."""
like = 'budget_subclass'
target = 'polynomial'
parts = ['trying', 'work']
walls,bare = 'refused', 'refused'
says = 'clock|training took|seconds'

# %% after hparams
NEED = .7

# %% in loop: budget = Budget(profile)
class Slow(Budget):
    def read(self, **kw):
        wall,cpu = super().read(**kw)
        self.first = getattr(self, 'first', wall)
        return self.first + (wall-self.first)/40, cpu
budget = Slow(profile)
print('TRIED')
