"""Dropout in the MLP, while it trains."""
# %% in mlp: def forward(self, x): return self.c_proj(F.relu(self.c_fc(x)).square())
def forward(self, x):
    return self.c_proj(F.dropout(F.relu(self.c_fc(x)).square(), 0.05, self.training))
